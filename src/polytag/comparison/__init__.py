"""The main job: train several models on the same data, score each model once on test photos, and write a report."""
