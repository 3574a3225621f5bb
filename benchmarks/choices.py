"""The table that benchmarks print when they choose between methods by validation mAP over several seeds."""

import numpy as np

Results = dict[str, dict[str, list[float]]]
"""For each method, the values of each figure, one per seed."""


def show(results: Results, other: str, digits: int) -> None:
    """Print each method's mean validation mAP, its difference from the first method, and another figure's mean."""
    first, plain = next((name, np.array(result["validation mAP"])) for name, result in results.items())
    print(f"{'':22}{'validation mAP':>15} {'sd':>7} {'against ' + first:>26} {other:>9}")
    for name, result in results.items():
        values = np.array(result["validation mAP"])
        apart = ", ".join(f"{d:+.4f}" for d in values - plain)
        sd = values.std(ddof=min(1, len(values) - 1))
        print(f"{name:22}{values.mean():15.4f} {sd:7.4f} {apart:>26} {np.mean(result[other]):9.{digits}f}")
