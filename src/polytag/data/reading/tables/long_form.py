"""Read tables in long form, with one label per row and therefore several rows per image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polytag.data.reading.tables.column import Column

SCORE_HEADERS = {"confidence", "conf", "probability", "prob", "certainty"}
"""Headers of the confidence of each row's label, even if each image has a single row."""

SIDE_SCORES = SCORE_HEADERS | {"score", "scores", "likelihood", "quality", "weight", "agreement"}
"""Headers of values that are no labels next to 0/1 columns."""

CONFIDENCE_HEADERS = {"confidence", "conf", "score", "scores", "probability", "prob", "certainty", "value", "present"}
CONFIDENCE_HEADERS |= {"presence", "verified", "answer", "ispresent", "vote", "votes", "confidences", "likelihood"}
BOX_HEADERS = {"xmin", "ymin", "xmax", "ymax", "x1", "y1", "x2", "y2", "bbox", "box", "boxes", "polygon", "polygons"}
BOX_HEADERS |= {"segmentation", "mask", "encodedpixels", "rle", "x", "y", "w", "h", "left", "top", "right", "bottom"}
BOX_HEADERS |= {"xcenter", "ycenter", "bboxx", "bboxy", "bboxw", "bboxh", "bboxwidth", "bboxheight"}


@dataclass(frozen=True, eq=False)
class LongForm:
    """Labels of images, collected from all rows of each image.

    Attributes:
        images: the names of the n images, in order of their first rows.
        first: int64 (n,), the first row of each image.
        targets: int8 (n, k), 1 for present, 0 for absent, -1 for unknown.
        disagreements: bool (n, k), whether one row says present and another says absent.
    """

    images: list[str]
    first: NDArray[np.int64]
    targets: NDArray[np.int8]
    disagreements: NDArray[np.bool_]


def is_long_form(image: Column, n_names: NDArray[np.int64], has_boxes: bool, has_confidence: bool) -> bool:
    """Return whether each row is one label of an image.

    Args:
        image: the column of image names.
        n_names: int (rows,), the number of names in each row.
        has_boxes: whether the table has columns of boxes or polygons.
        has_confidence: whether the table has a column with the confidence of each row.
    """
    if (n_names > 1).any():
        return False
    return has_boxes or has_confidence or len(set(image.words)) < len(image)


def gather(
    image: Column, label: NDArray[np.int64], values: NDArray[np.int8], n_labels: int, otherwise: int
) -> LongForm:
    """Merge the rows of each image.

    Args:
        image: the column of image names.
        label: int (rows,), the label of each row, or -1 if the row has no label.
        values: int8 (rows,), 1 for present, 0 for absent, -1 for unknown.
        n_labels: the number of labels.
        otherwise: the value of labels without a row, 0 or -1.
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
    entry = number * n_labels + label
    flat = targets.ravel()
    unknown, absent, present = (entry[(label >= 0) & (values == value)] for value in (-1, 0, 1))
    # Known values override unknown ones. If two known values differ, "present" wins.
    flat[unknown] = -1
    flat[present] = 1
    both = absent[flat[absent] == 1]
    flat[absent] = 0
    flat[present] = 1
    # Without any disagreement, the array takes no memory.
    disagreements = np.broadcast_to(np.False_, targets.shape)
    if len(both):
        disagreements = np.zeros(targets.shape, dtype=bool)
        disagreements.ravel()[both] = True
    listed = list(names)
    return LongForm([listed[i] for i in order], first[order], targets, disagreements)
