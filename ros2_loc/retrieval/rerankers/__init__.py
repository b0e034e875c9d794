"""Re-rankers of candidate places."""
