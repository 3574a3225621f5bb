"""The main job: train several models on the same data, score each once on test photos, write the report."""
