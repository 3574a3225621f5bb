"""Decide about doubtful labels on a local page."""
