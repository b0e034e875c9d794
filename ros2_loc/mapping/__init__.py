"""From images to a map."""
