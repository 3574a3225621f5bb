"""Show which regions of a photo the model associates with each label."""
