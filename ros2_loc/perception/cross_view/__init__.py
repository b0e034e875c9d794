"""Cross-view encoders: short videos and satellite tiles."""
