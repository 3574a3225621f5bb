"""The folder that a training leaves: model, labels, thresholds, scores and model card."""
