"""ROS 2 nodes and what they stand on; the only room that knows ROS."""
