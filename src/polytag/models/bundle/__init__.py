"""Bundle: the folder that training creates, with the model, labels, thresholds, scores and model card."""
