"""Score probabilities against labels: metrics, thresholds, calibration. NumPy and scikit-learn only."""
