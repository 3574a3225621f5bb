"""Read the annotation formats of labelling tools. Each module reads one format into records, which become a table."""
