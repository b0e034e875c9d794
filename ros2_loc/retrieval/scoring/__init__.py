"""From matched points to a score for each candidate place."""
