"""Draw the built-in sample: synthetic scenes with ten labels."""
