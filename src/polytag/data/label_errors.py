NOISE = 0.05
import numpy as np
FEWEST=5
def error_probabilities(probabilities, targets, noise=None):
    noise = NOISE if noise is None else noise
    p = np.clip(probabilities.astype(np.float64), 1e-6, 1 - 1e-6)
    present = p * np.select([targets == 1, targets == 0], [1 - noise, noise], 1.0)
    absent = (1 - p) * np.select([targets == 1, targets == 0], [noise, 1 - noise], 1.0)
    truth = present / (present + absent)
    bare = (np.sum((targets == 0).all(1)) + 1) / (np.prod(1 - p, 1).sum() + 1)
    nothing = np.prod(1 - truth, 1, keepdims=True)
    truth = truth / (1 - (1 - min(1.0, bare)) * nothing)
    return np.where(targets == 1, 1 - truth, truth)
