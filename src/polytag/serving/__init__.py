"""Tag and explain photos with a bundle, serve or export the bundle, and review suspect labels."""
