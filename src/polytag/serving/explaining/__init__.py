"""Show where on a photo the model sees each label."""
