"""Pictures: matches, camera overlays, trajectories, Rerun recordings."""
