"""Check photos and labels, decide about the findings, and write a cleaned table."""
