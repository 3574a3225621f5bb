"""Decode photos once, cache their pixels, measure them, and find duplicates."""
