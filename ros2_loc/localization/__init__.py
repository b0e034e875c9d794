"""Where the camera is: pose from matches, and the pose over time."""
