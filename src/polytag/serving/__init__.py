"""Use a bundle: tag, explain, review, serve and export."""
