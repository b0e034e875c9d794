"""Detectors: where objects are in an image, and which."""
