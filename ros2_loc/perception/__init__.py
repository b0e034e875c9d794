"""Adapters from images to records: keypoints, matches, whole-image descriptors, detections."""
