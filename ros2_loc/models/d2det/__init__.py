"""D2Det: two-stage detector with dense local regression and discriminative RoI pooling, and instance masks."""
