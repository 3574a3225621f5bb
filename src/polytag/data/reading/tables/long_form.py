"""Long form: one label per row, so that an image stands in several rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polytag.data.reading.tables.column import Column

CONFIDENCE_HEADERS = {"confidence", "conf", "score", "scores", "probability", "prob", "certainty", "value", "present"}
CONFIDENCE_HEADERS |= {"presence", "verified", "answer", "ispresent", "vote", "votes", "confidences", "likelihood"}
BOX_HEADERS = {"xmin", "ymin", "xmax", "ymax", "x1", "y1", "x2", "y2", "bbox", "box", "boxes", "polygon", "polygons"}
BOX_HEADERS |= {"segmentation", "mask", "encodedpixels", "rle", "x", "y", "w", "h", "left", "top", "right", "bottom"}
BOX_HEADERS |= {"xcenter", "ycenter", "bboxx", "bboxy", "bboxw", "bboxh", "bboxwidth", "bboxheight"}


@dataclass(frozen=True, eq=False)
class LongForm:
    """The labels of images, each from all its rows.

    Attributes:
        images: the n images, in order of their first rows.
        first: int64 (n,), the first row of each image.
        targets: int8 (n, k).
        disagreements: bool (n, k), where one row says present and another absent.
    """

    images: list[str]
    first: NDArray[np.int64]
    targets: NDArray[np.int8]
    disagreements: NDArray[np.bool_]


def is_long_form(image: Column, n_names: NDArray[np.int64], has_boxes: bool, has_confidence: bool) -> bool:
    """Whether each row is one label of an image.

    Args:
        image: the column of image names.
        n_names: int (rows,), the number of names in each row.
        has_boxes: whether the table has columns of boxes or polygons.
        has_confidence: whether the table says of each row how sure it is.
    """
    if (n_names > 1).any():
        return False
    return has_boxes or has_confidence or len(set(image.words)) < len(image)


def gather(
    image: Column, label: NDArray[np.int64], values: NDArray[np.int8], n_labels: int, otherwise: int
) -> LongForm:
    """Bring the rows of each image together.

    Args:
        image: the column of image names.
        label: int (rows,), the label of each row, or -1 if it names none.
        values: int8 (rows,), 1 present, 0 absent, -1 unknown.
        n_labels: the number of labels.
        otherwise: what labels without a row are, 0 or -1.
    """
    names: dict[str, int] = {}
    number = np.array([names.setdefault(word, len(names)) for word in image.words], dtype=np.int64)[image.codes]
    first = np.full(len(names), len(image), dtype=np.int64)
    np.minimum.at(first, number, np.arange(len(image)))
    order = np.argsort(first, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    number = place[number]
    targets = np.full((len(names), n_labels), otherwise, dtype=np.int8)
    named = label >= 0
    seen = [np.zeros(targets.shape, dtype=bool) for _ in range(3)]
    for value in (-1, 0, 1):
        rows = named & (values == value)
        seen[value][number[rows], label[rows]] = True
    targets[seen[-1]] = -1
    targets[seen[0]] = 0
    targets[seen[1]] = 1
    listed = list(names)
    return LongForm([listed[i] for i in order], first[order], targets, seen[0] & seen[1])
