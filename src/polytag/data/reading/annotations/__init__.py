"""Annotation formats of labelling tools, one file each; all become records, and records become a table."""
