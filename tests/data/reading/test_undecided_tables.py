"""Tables that can be read in two ways: the guess is said, or refused with the options that decide."""

import random
from pathlib import Path

import pytest

from polytag.data.reading.columns import read_table
from polytag.data.reading.options import ReadOptions
from polytag.data.reading.table import Table
from polytag.errors import PolytagError


def table(folder: Path, header: str, cells: list[str], **options: object) -> Table:
    rows = [f"p{i}.jpg,{cell}" for i, cell in enumerate(cells)]
    (folder / "t.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return read_table(folder / "t.csv", ReadOptions(**options))  # type: ignore[arg-type]


def test_blanks_kept_inside_labels_are_said_if_their_words_recur(tmp_path: Path) -> None:
    cells = ["red car", "blue car", "red bus", "blue sky", "green tree", "old tree", "red car", "green bus"]
    found = table(tmp_path, "image,tags", cells)
    assert "red car" in found.labels
    assert (
        "blanks are part of labels such as 'red car' and 'blue car'; --label-separator ' ' separates there"
        in found.notes
    )
    assert set(table(tmp_path, "image,tags", cells, label_separator=" ").labels) == set(" ".join(cells).split())
    apart = table(tmp_path, "image,tags", ["traffic light", "stop sign", "fire hydrant", "stop sign"])
    assert not any("blanks are part" in note for note in apart.notes)


def test_a_split_at_blanks_names_the_option_that_changes_it(tmp_path: Path) -> None:
    cells = ["clear water", "clear", "haze water", "haze", "clear road", "road water", "road", "water"]
    assert any("; --label-separator changes that" in note for note in table(tmp_path, "image,tags", cells).notes)


def test_words_of_sentences_are_no_labels(tmp_path: Path) -> None:
    places = ("mat", "box", "car", "bed", "sofa", "desk")
    cells = [f"a {animal} on the {place}" for animal in ("cat", "dog", "owl", "cow") for place in places]
    with pytest.raises(PolytagError, match=r"words of sentences.*--label-separator"):
        table(tmp_path, "image,tags", cells)


def test_decimal_commas_in_a_single_column_may_be_a_vector(tmp_path: Path) -> None:
    cells = ['"1,0"', '"0,0"', '"1,0"', '"0,0"']
    with pytest.raises(PolytagError, match=r"name the labels with --labels.*--label-column 'labels'"):
        table(tmp_path, "image,labels", cells)
    assert table(tmp_path, "image,labels", cells, labels="a,b").targets.tolist() == [[1, 0], [0, 0]] * 2
    assert table(tmp_path, "image,labels", cells, label_column="labels").targets[:, 0].tolist() == [1, 0, 1, 0]
    columns = table(tmp_path, "image,cat,dog", ['"1,0","0,0"', '"0,0","1,0"'])
    assert columns.targets.tolist() == [[1, 0], [0, 1]]


def test_a_score_next_to_labels_is_not_used(tmp_path: Path) -> None:
    found = table(tmp_path, "image,cat,dog,score", ["1,0,0.25", "0,1,0.5", "1,1,0.125"])
    assert found.labels == ("cat", "dog") and "not used: score" in found.recognised
    with pytest.raises(PolytagError, match="--at-least"):
        table(tmp_path, "image,cat,dog,owl", ["1,0,0.25", "0,1,0.5", "1,1,0.125"])


def test_a_column_of_0_and_1_never_names_images(tmp_path: Path) -> None:
    for name in ("0.jpg", "1.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "t.csv").write_text("cat,dog\n1,0\n0,1\n1,1\n")
    with pytest.raises(PolytagError, match="--image-column"):
        read_table(tmp_path / "t.csv")


def test_labels_may_be_called_x_and_y(tmp_path: Path) -> None:
    assert set(table(tmp_path, "image,labels", ["x", "y", "x", "y"]).labels) == {"x", "y"}


def test_flags_next_to_names_do_not_keep_blanks_from_separating(tmp_path: Path) -> None:
    rng = random.Random(0)
    names = ["chair", "person", "car", "tvmonitor"]
    chosen = [rng.sample(names, rng.randint(1, 3)) for _ in range(24)]
    found = table(tmp_path, "fname,labels,is_valid", [f"{' '.join(one)},{i % 2 == 0}" for i, one in enumerate(chosen)])
    assert set(found.labels) == set(names) and "not used: is_valid" in found.recognised
    columns = table(tmp_path, "fname,cat,dog,is_valid", ["1,0,True", "0,1,False", "1,1,False"])
    assert columns.labels == ("cat", "dog") and "not used: is_valid" in columns.recognised


def test_of_two_columns_of_categories_neither_is_guessed(tmp_path: Path) -> None:
    cells = ["Apparel,Topwear", "Apparel,Shoes", "Accessories,Bags", "Accessories,Belts"]
    with pytest.raises(PolytagError, match="--label-column; repeat it"):
        table(tmp_path, "image,masterCategory,subCategory", cells)
    assert len(table(tmp_path, "image,masterCategory,subCategory", cells, label_column="subCategory").labels) == 4


def test_a_split_of_any_header_is_no_label(tmp_path: Path) -> None:
    with pytest.raises(PolytagError, match="no labels"):
        table(tmp_path, "image,ml_usage", ["train", "test", "train", "test"])
    found = table(tmp_path, "image,cat,split", ["1,train", "0,validate", "1,test"])
    assert found.parts == ["train", "validation", "test"]


@pytest.mark.parametrize(
    "text, says",
    [
        ("2\ncat dog owl\np.jpg 1 -1 1\nq.jpg -1 1 -1\n", "separates its columns by blanks"),
        ('{"image": "p.jpg"}\n{"image": "q.jpg"}\n', "rename it to t.jsonl"),
    ],
)
def test_files_that_only_look_like_a_table(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(PolytagError, match=says):
        read_table(tmp_path / "t.csv")


def test_an_id_column_is_a_label_only_if_its_cells_recur(tmp_path: Path) -> None:
    assert set(table(tmp_path, "Image,Id", ["w_1", "new_whale", "w_1", "new_whale"]).labels) == {"w_1", "new_whale"}
    with pytest.raises(PolytagError, match="no labels"):
        table(tmp_path, "Image,Id", ["w_1", "w_2", "w_3", "w_4"])


def test_a_source_next_to_boxes_is_no_label(tmp_path: Path) -> None:
    with pytest.raises(PolytagError, match="name one of width, source with --label-column"):
        table(tmp_path, "image,width,bbox,source", ['9,"[1.0, 2.0]",usask', '9,"[1.0, 2.0]",arvalis'] * 3)


def test_folds_and_missing_cells_are_no_labels(tmp_path: Path) -> None:
    assert table(tmp_path, "image,cat,dog,fold", ["1,0,0", "0,1,1", "1,1,0"]).labels == ("cat", "dog")
    assert table(tmp_path, "image,tags", ["cat", "N/A", "cat;dog", "null", "dog"]).labels == ("cat", "dog")
