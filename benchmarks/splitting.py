"""How evenly splits share out labels and combinations of labels, and how time and memory grow.

    python benchmarks/splitting.py [DATA ...] [--photos 1000 10000 100000] [--labels 80] [--seeds 3]

Uses the labels of DATA and drawn labels, whose frequencies fall from one half like Zipf's law. Photos are not opened.
Deviations are numbers of photos: the difference between the count of a label in a part and its share.
"""

import argparse
import resource
import time
from pathlib import Path

import numpy as np

import polytag as pt
from polytag.data.dataset import Dataset
from polytag.data.splitting.stratify import COMBINATIONS, RATIOS, stratify


def drawn(photos: int, labels: int) -> Dataset:
    rng = np.random.default_rng(photos)
    frequencies = 0.5 / np.arange(1, labels + 1) ** 0.9
    targets = np.empty((photos, labels), np.int8)
    for start in range(0, photos, 10_000):
        targets[start : start + 10_000] = rng.random((len(targets[start : start + 10_000]), labels)) < frequencies
    names = tuple(f"label{j}" for j in range(labels))
    return Dataset(np.array([f"/{i}.jpg" for i in range(photos)]), targets, names, np.arange(photos), Path("/"))


def deviations(columns: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Absolute differences between the counts of columns and their shares, float64 (3, columns)."""
    counts = np.stack([columns[part == number].sum(axis=0) for number in range(3)])
    return np.abs(counts - np.outer(RATIOS, columns.sum(axis=0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*")
    parser.add_argument("--photos", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--labels", type=int, default=80)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    datasets = [(Path(path).name, pt.read(path, conflicts="unknown")) for path in arguments.data]
    datasets += [(f"{n:,} × {arguments.labels}", drawn(n, arguments.labels)) for n in arguments.photos]
    print("| data | label, mean | worst | photos, worst | combination, mean | worst | CPU seconds | peak memory, GB |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, data in datasets:
        sets, which, counts = np.unique(data.targets == 1, axis=0, return_inverse=True, return_counts=True)
        several = np.flatnonzero((sets.sum(axis=1) > 1) & (counts >= 1 / min(RATIOS)))
        common = several[np.argsort(-counts[several], kind="stable")][:COMBINATIONS]
        found, start = [], time.process_time()
        parts = [stratify(data, np.arange(len(data)), RATIOS, seed) for seed in range(arguments.seeds)]
        seconds = (time.process_time() - start) / arguments.seeds
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        for part in parts:
            columns = (data.targets == 1, np.ones((len(data), 1), bool), which.ravel()[:, None] == common)
            found.append([deviations(some, part) for some in columns])
        label, photos, combination = (np.stack(some) for some in zip(*found, strict=True))
        print(
            f"| {name} | {label.mean():.2f} | {label.max():.1f} | {photos.max():.1f} | {combination.mean():.2f} | "
            f"{combination.max():.1f} | {seconds:.2f} | {peak:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
