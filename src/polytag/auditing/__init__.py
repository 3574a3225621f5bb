"""Find what is odd about the photos and labels, take decisions about it, and write a cleaned table."""
