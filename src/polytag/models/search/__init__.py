"""Hyperparameter search with a limited number of trials or a time limit."""
