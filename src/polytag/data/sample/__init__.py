"""Draw the built-in sample data set: synthetic scenes with ten labels."""
