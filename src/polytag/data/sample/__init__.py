"""Draw the built-in sample dataset: synthetic scenes with ten labels."""
