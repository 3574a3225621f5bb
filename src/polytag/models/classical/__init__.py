"""Classical multi-label methods, which are fitted to embeddings without epochs."""
