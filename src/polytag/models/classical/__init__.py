"""Classical multi-label methods on embeddings: trained without epochs."""
