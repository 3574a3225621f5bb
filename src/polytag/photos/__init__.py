"""From bytes to pixels, once: decode, cache, measure, find duplicates."""
