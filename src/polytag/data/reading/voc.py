"""Pascal VOC: one XML file per photo."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from polytag.data.reading.annotations import _image, _label, _table
from polytag.data.reading.table import Table
from polytag.errors import DataError, counted


def read_voc(folder: Path, annotations: Path) -> Table:
    """Read a folder of Pascal VOC XML files, one an image.

    A class of which only objects marked ``difficult`` are in a photo is unknown there: VOC itself neither
    counts nor blames them.

    Raises:
        DataError: a file is damaged or no annotation.
    """
    files: list[str] = []
    sure: list[set[str]] = []
    difficult: list[set[str]] = []
    for number, path in enumerate(sorted(annotations.glob("*.xml")), 1):
        root = _parse(path)
        name = root.findtext("filename")
        files.append(_image(path, "image", number, path.stem if name is None else name.strip(), "filename"))
        easy: set[str] = set()
        hard: set[str] = set()
        for i, thing in enumerate(root.findall("object"), 1):
            label = _label(path, "object", i, thing.findtext("name"))
            (hard if (thing.findtext("difficult") or "0").strip() in ("1", "true", "True") else easy).add(label)
        sure.append(easy)
        difficult.append(hard - easy)
    labels = tuple(sorted(set().union(*sure, *difficult)))
    if not labels:
        raise DataError(f"none of {counted(len(files), 'XML file')} in {annotations} names an object")
    place = {label: j for j, label in enumerate(labels)}
    targets = np.zeros((len(files), len(labels)), dtype=np.int8)
    for row, (easy, hard) in enumerate(zip(sure, difficult, strict=True)):
        targets[row, [place[label] for label in easy]] = 1
        targets[row, [place[label] for label in hard]] = -1
    notes = []
    unknown = int((targets < 0).sum())
    if unknown:
        images = counted(int((targets < 0).any(axis=1).sum()), "image")
        notes.append(f"{counted(unknown, 'label')} in {images} only on objects marked difficult: unknown there")
    folder = folder.resolve()
    homes = tuple(dict.fromkeys((folder, annotations.resolve(), annotations.resolve().parent)))
    form = f"Pascal VOC, {counted(len(files), 'XML file')} with {counted(len(labels), 'label')}"
    return _table(folder.name, form, files, labels, targets, notes, homes, one_file_each=True)


class _Builder(ElementTree.TreeBuilder):
    def doctype(self, *_: Any) -> None:
        # Entities are declared there; those that expand a thousandfold or read other files are an old attack.
        raise DataError("it declares a DOCTYPE, which annotations have no need of")


def _parse(path: Path) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=_Builder()))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): make it readable") from None
    except (DataError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path} is not the XML of an annotation ({error}): export it again or take it out") from None
    if root.tag != "annotation":
        raise DataError(f"{path} holds <{root.tag}>: expected a Pascal VOC <annotation>")
    return root
