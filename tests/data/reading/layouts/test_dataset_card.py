"""Class names in the README of a dataset on the Hugging Face Hub."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from labelled import labels_of, put, refusal
from polytag import read

Photos = Callable[..., list[str]]

CARD = """---
license: mit
dataset_info:
  features:
  - name: image
    dtype: image
  - name: labels
    sequence:
      class_label:
        names:
          '0': cat
          '1': no
          '2': stop sign
---
# Photos
"""


LIST = """---
dataset_info:
- features:
  - name: labels
    dtype:
      class_label:
        names: [owl, heron]
---
"""


@pytest.fixture
def folder(tmp_path: Path, photos: Photos) -> Path:
    photos(tmp_path, ["a.jpg", "b.jpg", "c.jpg"])
    put(tmp_path / "README.md", CARD)
    return tmp_path


def test_numbers_become_the_names_of_the_card(folder: Path) -> None:
    lines = [{"file_name": "a.jpg", "labels": [0, 2]}, {"file_name": "b.jpg", "labels": []}]
    lines.append({"file_name": "c.jpg", "labels": [1]})
    put(folder / "metadata.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    data = read(folder)
    assert labels_of(data) == {"a.jpg": "cat stop sign", "b.jpg": "", "c.jpg": "no"}
    assert "README.md names the classes of column 'labels'" in data.notes
    put(folder / "metadata.jsonl", json.dumps({"file_name": "a.jpg", "labels": [7]}) + "\n")
    assert "class 7" in refusal(folder) and "README.md" in refusal(folder)


def test_a_table_and_another_way_to_write_the_names(folder: Path) -> None:
    put(folder / "metadata.csv", "file_name,labels\na.jpg,0\nb.jpg,1\nc.jpg,0\n")
    put(folder / "README.md", LIST)
    assert labels_of(read(folder)) == {"a.jpg": "owl", "b.jpg": "heron", "c.jpg": "owl"}


@pytest.mark.parametrize(
    "card", ["no front matter", "---\ndataset_info: [\n---\n", "---\na: 1\n---\n", "---\n- 1\n---\n"]
)
def test_other_cards_change_nothing(folder: Path, card: str) -> None:
    put(folder / "README.md", card)
    put(folder / "metadata.csv", "file_name,labels\na.jpg,x\nb.jpg,y\nc.jpg,x\n")
    assert read(folder).labels == ("x", "y")
