"""Train models, and everything that happens between photos and probabilities."""
