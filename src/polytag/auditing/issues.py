"""What an audit looks for: every kind of finding with its meaning, its weight and what to do about it.

Scores run from 0 (certainly) to 1 (not at all), as cleanlab and cleanvision have them: lower is worse.
"""

from dataclasses import dataclass
from typing import Literal

Weight = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Issue:
    """One kind of finding.

    Attributes:
        title: in a few words.
        about: "photo", "label" (of the whole table) or "entry" (one label of one photo).
        weight: "error" (spoils results or training), "warning" (look at it), "note" (good to know).
        advice: what it means and what to do, in a sentence or two.
    """

    title: str
    about: Literal["photo", "label", "entry"]
    weight: Weight
    advice: str


UNREADABLE = {
    "missing": "missing",
    "empty": "empty",
    "not an image": "not_an_image",
    "truncated": "truncated",
    "damaged": "damaged",
    "too large": "too_large",
}
"""The issue of each problem that an `ImageError` names."""

SCALED = {
    "tiny": ("shorter side", 64),
    "extreme_aspect": ("shorter : longer side", 1 / 3),
    "blank": ("contrast", 0.01),
    "dark": ("brightest hundredth", 0.32),
    "bright": ("1 − darkest hundredth", 0.2),
    "blurry": ("sharpness", 0.5),
}
"""Issues that are a matter of degree: what is measured, and below which value it is flagged."""

ISSUES = {
    "missing": Issue("File missing", "photo", "error", "Listed, but there is no such file or it may not be read."),
    "empty": Issue("Empty file", "photo", "error", "The file has no content: fetch it again, or drop its row."),
    "not_an_image": Issue(
        "Not an image",
        "photo",
        "error",
        "The content is not a JPEG, PNG, WebP, BMP, GIF, TIFF, HEIC or AVIF, whatever its name says.",
    ),
    "truncated": Issue("Truncated", "photo", "error", "The file ends too early: fetch it again, or drop its row."),
    "damaged": Issue("Damaged", "photo", "error", "The content cannot be decoded: fetch it again, or drop its row."),
    "too_large": Issue(
        "Over the pixel limit", "photo", "error", "So many pixels may be a decompression bomb: reduce it, or drop it."
    ),
    "exact_duplicate": Issue(
        "Exact copy",
        "photo",
        "warning",
        "The same bytes as an earlier photo. It counts twice in every score, and split keeps the two together.",
    ),
    "near_duplicate": Issue(
        "Near-duplicate",
        "photo",
        "warning",
        "The same picture as an earlier photo, re-encoded, resized or brightened. Split keeps the two together.",
    ),
    "cropped_duplicate": Issue(
        "Crop of another",
        "photo",
        "warning",
        "The same picture as an earlier photo, cropped. Split keeps them together.",
    ),
    "mirrored_duplicate": Issue(
        "Mirror image", "photo", "warning", "An earlier photo mirrored. Split keeps the two together."
    ),
    "conflicting_duplicate": Issue(
        "Copies with conflicting labels",
        "photo",
        "error",
        "Two photos show the same picture and their labels contradict each other: at least one is wrong.",
    ),
    "listed_twice": Issue("Listed more than once", "photo", "note", "Several rows name this photo and agree."),
    "conflicting_rows": Issue(
        "Rows that conflict", "photo", "error", "Several rows name this photo and contradict each other."
    ),
    "names_against_columns": Issue(
        "Names against 0/1 columns", "photo", "error", "The column of names and the 0/1 columns contradict each other."
    ),
    "leak": Issue(
        "Leak of the given split",
        "photo",
        "error",
        "The same picture is in another part of the split too: scores on it would be flattered.",
    ),
    "no_label": Issue(
        "Without any label", "photo", "note", "None of the labels is present: is that so, or was it not annotated?"
    ),
    "all_unknown": Issue("All labels unknown", "photo", "warning", "Nothing can be learned from this photo."),
    "blank": Issue("Nearly blank", "photo", "warning", "Hardly anything but one colour."),
    "dark": Issue("Dark", "photo", "note", "Even its brightest parts are dark."),
    "bright": Issue("Bright", "photo", "note", "Even its darkest parts are bright."),
    "blurry": Issue("Blurry", "photo", "note", "It loses little when it is blurred once more."),
    "tiny": Issue("Tiny", "photo", "note", "Its shorter side has under 64 pixels; models see it enlarged."),
    "extreme_aspect": Issue(
        "Extreme proportions", "photo", "note", "More than three times as long as wide; models see it squashed."
    ),
    "wrong_extension": Issue(
        "Wrong file name ending", "photo", "note", "The content is of another format than the name says."
    ),
    "animated": Issue("Several pictures in one file", "photo", "note", "Only the first one is used."),
    "unusual_mode": Issue(
        "Unusual pixels", "photo", "note", "CMYK, more than 8 bits, transparency or a palette; converted to RGB."
    ),
    "exif_rotated": Issue("Turned by EXIF", "photo", "note", "Stored turned or mirrored; polytag turns it upright."),
    "grey": Issue("Without colour", "photo", "note", "A grey photo among coloured ones."),
    "label_variant": Issue(
        "Label written in two ways",
        "label",
        "error",
        "Two labels differ in case, blanks or punctuation only: merge them.",
    ),
    "similar_labels": Issue(
        "Labels spelt alike",
        "label",
        "warning",
        "Two labels that never meet differ in a letter or an ending: are they one?",
    ),
    "never_present": Issue(
        "Label never present", "label", "error", "Nothing can be learned from it: add examples, or take it out."
    ),
    "always_present": Issue(
        "Label always present",
        "label",
        "error",
        "Nothing can be learned from it: add photos without it, or take it out.",
    ),
    "rare": Issue(
        "Rare label",
        "label",
        "warning",
        "On fewer than 20 photos: about three in the test part, too few to judge it by.",
    ),
    "always_together": Issue(
        "Labels always together",
        "label",
        "warning",
        "Two labels are on just the same photos: no model can tell them apart.",
    ),
    "missing_label": Issue(
        "Missing label", "entry", "warning", "The photo looks as if the label belonged to it: look at it."
    ),
    "wrong_label": Issue(
        "Wrong label", "entry", "warning", "The photo does not look like others with this label: look at it."
    ),
}
"""Every kind of finding by its name, in the order of the tables."""
