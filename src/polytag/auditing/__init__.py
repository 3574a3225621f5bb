"""Check photos and labels, decide what to do about the findings, and write a cleaned table."""
