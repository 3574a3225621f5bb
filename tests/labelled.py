"""What tests of annotation formats share: writing files, and the labels of each photo as they were read."""

import json
from pathlib import Path
from typing import Any

import pytest

from polytag import read
from polytag.data.dataset import Dataset
from polytag.errors import PolytagError


def put(path: Path, content: Any) -> Path:
    """Write text, bytes, or anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def labels_of(data: Dataset) -> dict[str, str]:
    """The labels of each photo by its path below the root: "cat dog", with "?" behind those unknown."""
    return {
        name: " ".join(
            label + "?" * (value < 0) for label, value in sorted(zip(data.labels, row, strict=True)) if value != 0
        )
        for name, row in zip(data.names, data.targets.tolist(), strict=True)
    }


def parts_of(data: Dataset) -> dict[str, str] | None:
    return None if data.parts is None else dict(zip(data.names, data.parts.tolist(), strict=True))


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(PolytagError) as caught:
        read(path, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)
