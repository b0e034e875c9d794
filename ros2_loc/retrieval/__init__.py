"""From a query to candidate places: index and re-rankers."""
