"""Whole-image encoders."""
