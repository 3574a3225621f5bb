"""Define the issues that an audit looks for, how serious each one is, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

Weight = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Issue:
    """One kind of finding.

    Attributes:
        title: short name of the issue.
        about: what a finding concerns: a "photo", a "label" of the whole table, the "table" itself, or an "entry",
            which is one label of one photo.
        weight: "error" (makes results wrong), "warning" (worth a look) or "note" (good to know).
        advice: what the finding means and what to do about it, in one or two sentences.
    """

    title: str
    about: Literal["photo", "label", "table", "entry"]
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
"""The issue that corresponds to each `ImageError.problem`."""

SCALED = {
    "tiny": ("shorter side", 64),
    "extreme_aspect": ("shorter side / longer side", 1 / 3),
    "blank": ("contrast", 0.01),
    "dark": ("99th percentile of brightness", 0.32),
    "bright": ("1 − 1st percentile of brightness", 0.2),
    "blurry": ("sharpness", 0.5),
}
"""Issues that are a matter of degree, each with the measured quantity and the limit below which a photo is flagged."""

ISSUES = {
    "missing": Issue(
        "Missing file", "photo", "error", "The table lists a file that does not exist or cannot be opened."
    ),
    "empty": Issue("Empty file", "photo", "error", "The file has no content. Download it again, or drop its row."),
    "not_an_image": Issue(
        "Not an image", "photo", "error", "The content is not a supported image, despite the file name."
    ),
    "truncated": Issue(
        "Truncated file", "photo", "error", "The file ends too early. Download it again, or drop its row."
    ),
    "damaged": Issue(
        "Damaged file", "photo", "error", "The image cannot be decoded. Download it again, or drop its row."
    ),
    "too_large": Issue(
        "Too many pixels",
        "photo",
        "error",
        "The image exceeds the pixel limit, which protects against decompression bombs. Shrink it, or drop its row.",
    ),
    "exact_duplicate": Issue(
        "Exact duplicate",
        "photo",
        "warning",
        "The file is identical to an earlier one, so it counts twice in every score. A split keeps both together.",
    ),
    "near_duplicate": Issue(
        "Near-duplicate",
        "photo",
        "warning",
        "The same picture as an earlier photo, re-encoded, resized or brightened. A split keeps both together.",
    ),
    "cropped_duplicate": Issue(
        "Cropped duplicate",
        "photo",
        "warning",
        "The same picture as an earlier photo, but cropped. A split keeps both together.",
    ),
    "mirrored_duplicate": Issue(
        "Mirrored duplicate",
        "photo",
        "warning",
        "The mirror image of an earlier photo. A split keeps both together.",
    ),
    "conflicting_duplicate": Issue(
        "Duplicates with conflicting labels",
        "photo",
        "error",
        "Two photos show the same picture, but their labels disagree. At least one of them is wrong.",
    ),
    "listed_twice": Issue("Listed more than once", "photo", "note", "Several rows list this photo, and they agree."),
    "conflicting_rows": Issue(
        "Conflicting rows", "photo", "error", "Several rows list this photo, and their labels disagree."
    ),
    "names_against_columns": Issue(
        "Label list contradicts 0/1 columns",
        "photo",
        "error",
        "The column with the list of labels and the 0/1 columns disagree.",
    ),
    "leak": Issue(
        "Split leak",
        "photo",
        "error",
        "The same picture is in another part of the given split, so scores would be too high.",
    ),
    "no_label": Issue("No label", "photo", "note", "No label is present. Check whether the photo was annotated."),
    "all_unknown": Issue("All labels unknown", "photo", "warning", "A model cannot learn anything from this photo."),
    "blank": Issue("Nearly blank", "photo", "warning", "The photo is almost a single colour."),
    "dark": Issue("Dark", "photo", "note", "Even the brightest areas of the photo are dark."),
    "bright": Issue("Bright", "photo", "note", "Even the darkest areas of the photo are bright."),
    "blurry": Issue("Blurry", "photo", "note", "Blurring the photo again hardly changes it."),
    "tiny": Issue("Tiny", "photo", "note", "The shorter side has fewer than 64 pixels, so models see it enlarged."),
    "extreme_aspect": Issue(
        "Extreme aspect ratio",
        "photo",
        "note",
        "One side is more than three times as long as the other, so models see the photo distorted.",
    ),
    "wrong_extension": Issue(
        "Wrong file extension", "photo", "note", "The file's content does not match its extension."
    ),
    "animated": Issue("Several images in one file", "photo", "note", "Only the first image is used."),
    "unusual_mode": Issue(
        "Unusual pixel format",
        "photo",
        "note",
        "CMYK, more than 8 bits per channel, transparency or a palette. The photo is converted to 8-bit RGB.",
    ),
    "exif_rotated": Issue(
        "Rotated by EXIF", "photo", "note", "The photo is stored rotated or mirrored. It is turned upright on reading."
    ),
    "grey": Issue("Greyscale", "photo", "note", "A photo without colour, while most others have colour."),
    "misread_labels": Issue(
        "Labels look misread",
        "table",
        "error",
        "A column was probably not split where it should be. Set --label-separator or --label-column.",
    ),
    "label_variant": Issue(
        "Two spellings of a label",
        "label",
        "error",
        "The names differ only in case, spaces, punctuation or look-alike characters. Merge them.",
    ),
    "similar_labels": Issue(
        "Similar label names",
        "label",
        "warning",
        "The names differ by a letter or a suffix, and the labels never occur together. Do they mean the same?",
    ),
    "never_present": Issue(
        "Label never present", "label", "error", "A model cannot learn this label. Add examples, or remove it."
    ),
    "always_present": Issue(
        "Label always present",
        "label",
        "error",
        "A model cannot learn this label. Add photos without it, or remove it.",
    ),
    "rare": Issue(
        "Rare label",
        "label",
        "warning",
        "Fewer than 20 photos have this label. About three of them are test photos, too few for a reliable score.",
    ),
    "always_together": Issue(
        "Inseparable labels",
        "label",
        "warning",
        "Both labels are on exactly the same photos, so no model can distinguish them.",
    ),
    "missing_label": Issue(
        "Possibly missing label", "entry", "warning", "The photo looks like photos that have this label. Check it."
    ),
    "wrong_label": Issue(
        "Possibly wrong label",
        "entry",
        "warning",
        "The photo does not look like others that have this label. Check it.",
    ),
}
"""Every kind of finding by key, in the order used in tables and pages."""
