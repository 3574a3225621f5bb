"""Does compare cope with a long tail of labels, and what does it leave out?

    python benchmarks/long_tail.py [--models binary_relevance,mlknn] [--out long_tail]

Draws 2,600 photos of 96 px with 19 labels, which 1 to 1,308 photos show, as in a small data set in Pascal VOC format. A
label is a square with a color and place of its own. Then it compares models and prints what was left out, which labels
do not count in mAP, and why.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import polytag as pt

COUNTS = (1, 3, 6, 9, 9, 17, 24, 33, 45, 61, 83, 112, 152, 206, 279, 378, 512, 694, 1308)
PHOTOS, SIDE, SQUARE = 2600, 96, 18


def draw(folder: Path) -> None:
    """Write the photos and labels.csv."""
    random = np.random.default_rng(0)
    targets = np.zeros((PHOTOS, len(COUNTS)), int)
    for j, count in enumerate(COUNTS):
        targets[random.choice(PHOTOS, count, replace=False), j] = 1
    colors = random.integers(0, 256, (len(COUNTS), 3))
    lines = ["image," + ",".join(f"label{j + 1}" for j in range(len(COUNTS)))]
    for i, row in enumerate(targets):
        photo = random.integers(60, 200, (SIDE, SIDE, 3))
        for j in np.flatnonzero(row):
            y, x = SQUARE * (j // 5), SQUARE * (j % 5)
            photo[y : y + SQUARE, x : x + SQUARE] = colors[j]
        Image.fromarray(photo.astype(np.uint8)).save(folder / f"{i}.png")
        lines.append(f"{i}.png," + ",".join(map(str, row)))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="binary_relevance,mlknn")
    parser.add_argument("--out", type=Path, default=Path("long_tail"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder))
        data, models = pt.read(folder), arguments.models.split(",")
        settings = {"image_size": SIDE, "show_progress": False, "say": print}
        contest = pt.compare(data, arguments.out, models, **settings).contest
    print(contest.answer())
    best = contest.ranked[0].evaluation
    for label, count in zip(data.labels, COUNTS, strict=True):
        fate = contest.labels_left_out.get(label) or (
            f"not in mAP, {best.per_label[label]['support']:.0f} test photos"
            if label in best.too_rare
            else f"AP {best.per_label[label]['average_precision']:.3f}, 95% interval {{:.3f}} to {{:.3f}}".format(
                *best.label_intervals[label]["average_precision"]
            )
        )
        print(f"{label:8} {count:5} photos: {fate}")


if __name__ == "__main__":
    main()
