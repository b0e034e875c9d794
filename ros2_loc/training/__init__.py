"""Training: samples, losses, one loop for every network, recipes."""
