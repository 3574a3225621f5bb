"""Search hyperparameters by number of trials or by time."""
