"""Describe formats that polytag recognizes but does not read, and suggest what to export instead."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from polytag.errors import listed

BY_EXTENSION = {
    ".tfrecord": ("TFRecord", "write the images as files and the labels as CSV"),
    ".tfrecords": ("TFRecord", "write the images as files and the labels as CSV"),
    ".tfrec": ("TFRecord", "write the images as files and the labels as CSV"),
    ".mdb": ("LMDB", "write the images as files and the labels as CSV"),
    ".mat": ("MATLAB", "save the labels as CSV, with writetable"),
    ".tar": ("WebDataset or another tar archive", "unpack it and name the folder"),
    ".tgz": ("a tar archive", "unpack it and name the folder"),
    ".gz": ("a compressed file", "unpack it and name what is inside"),
    ".zip": ("a ZIP archive", "unpack it and name the folder"),
    ".7z": ("a 7-Zip archive", "unpack it and name the folder"),
    ".rar": ("a RAR archive", "unpack it and name the folder"),
    ".h5": ("HDF5", "write the images as files and the labels as CSV"),
    ".hdf5": ("HDF5", "write the images as files and the labels as CSV"),
    ".npz": ("NumPy arrays", "write the images as files and the labels as CSV"),
    ".npy": ("a NumPy array", "write the images as files and the labels as CSV"),
    ".pkl": ("a pickle", "save the labels as CSV; pickles can run code"),
    ".pickle": ("a pickle", "save the labels as CSV; pickles can run code"),
    ".pt": ("PyTorch tensors", "write the images as files and the labels as CSV"),
    ".arrow": ("Arrow", "save it as Parquet, with Dataset.to_parquet"),
    ".rec": ("MXNet RecordIO", "write the images as files and the labels as CSV"),
    ".lrcat": ("a Lightroom catalogue", "write the keywords into the photos, with 'Save Metadata to File'"),
    ".db": ("a database", "export the labels as CSV"),
    ".sqlite": ("a database", "export the labels as CSV"),
    ".xls": ("an Excel spreadsheet", "save it as CSV"),
    ".ods": ("a spreadsheet", "save it as CSV"),
    ".doc": ("a text document", "save the table as CSV"),
    ".docx": ("a text document", "save the table as CSV"),
}
"""Format for each file extension, and what to do about it."""


def named(paths: Iterable[Path]) -> str | None:
    """Describe the first recognized file in one clause, and say what to do. Return ``None`` if there is none."""
    for path in paths:
        name = path.name.lower()
        known = BY_EXTENSION.get(path.suffix.lower())
        if known is None and ".tfrecord" in name:
            known = BY_EXTENSION[".tfrecord"]
        if known is not None:
            return f"{path.name} is {known[0]}, which polytag does not read: {known[1]}"
    return None


def named_project(folder: Path) -> str | None:
    """Name the tool that exported a folder, and say what to export instead. Return ``None`` if it is unknown."""
    if (folder / "meta.json").is_file() and any((entry / "ann").is_dir() for entry in folder.iterdir()):
        return f"{folder.name} is a Supervisely project, which polytag does not read: export it as COCO"
    return None


def unknown_json(content: object) -> str:
    """Describe the content of a JSON file in an unknown format, and suggest an export if its tool is recognized."""
    if isinstance(content, dict):
        return tool_of(content) or (
            f"an object with {listed([str(key) for key in content])}" if content else "an empty object"
        )
    if isinstance(content, list):
        first = content[0] if content else None
        if isinstance(first, dict) and (tool := tool_of(first)):
            return tool
        if isinstance(first, dict):
            return f"a list of objects with {listed([str(key) for key in first])}"
        return "a list of other things" if content else "an empty list"
    return type(content).__name__


def tool_of(record: Mapping[str, object]) -> str | None:
    """Name the tool that exported a JSON object, and say what to export instead. Return ``None`` if it is unknown."""
    for wanted, tool in TOOLS:
        if wanted <= set(record):
            return f"{tool}, which polytag does not read: export it as COCO, or write a CSV of images and labels"
    return None


TOOLS: tuple[tuple[set[str], str], ...] = (
    ({"objects", "size", "tags"}, "a Supervisely annotation"),
    ({"classes", "projectType"}, "the meta.json of a Supervisely project"),
    ({"data_row", "projects"}, "a Labelbox export"),
    ({"Labeled Data", "Label"}, "a Labelbox export"),
    ({"item", "annotations"}, "a V7 Darwin annotation"),
    ({"metadata", "instances"}, "a SuperAnnotate annotation"),
    ({"images", "detection_categories"}, "MegaDetector's output"),
    ({"openlabel"}, "an OpenLABEL annotation"),
    ({"@context"}, "a web annotation"),
)
"""Keys that identify exports from other tools."""
