"""Find photos that show the same picture."""
