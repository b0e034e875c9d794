"""A synthetic town: streets, houses, trees, cameras that drive through it, a satellite view, and the exact truth of all of it."""
