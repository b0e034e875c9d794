"""The language of the package: records, poses, cameras, geodesy. No files, no ROS, no torch."""
