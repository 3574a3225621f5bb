"""Tables of labels: every form is recognised and said, and what cannot be understood is refused in one clear line."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag.data.reading.columns import read_table
from polytag.data.reading.options import ReadOptions
from polytag.data.reading.table import Table
from polytag.data.reading.tables.guards import CONJUNCTIONS
from polytag.data.reading.tables.separators.names import split_names
from polytag.data.reading.tables.values import Kind, kind_of
from polytag.errors import DataError

Write = Callable[..., Path]

KAGGLE = """\
Image_Name," Classes(motorcycle, truck, boat, , , , sitar, tabla)",motorcycle,truck,boat,sitar,tabla
image1.jpg,  boat ,0,0,1,0,0
image2.jpg,  sitar tabla,0,0,0,1,1
image3.jpg,   tabla,0,0,0,0,1
image4.jpg,motorcycle truck,1,1,0,0,0
image5.jpg,,0,0,0,0,0
"""
"""The quirks of the Kaggle file: a header that lists the names, and names beside 0/1 columns."""

PASTED = """\
Column1,Column2
Image_Name, Classes
image0.jpg,
image1.jpg,  bus person
image2.jpg,  bus
image3.jpg, person
Image_Name, Classes
image4.jpg,sea
image5.img,"sea,sunset"
image6.jpg,"sunset"
Image_Name, Classes
image7.jpg,"sunset, sea"
"""
"""The quirks of its sibling: two header lines, repeated headers, blanks and commas, an odd ending."""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str | bytes, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def sets(table: Table) -> list[set[str]]:
    return [{label for label, value in zip(table.labels, row, strict=True) if value == 1} for row in table.targets]


def refusal(path: Path, **options: str) -> str:
    with pytest.raises(DataError) as caught:
        read_table(path, ReadOptions(**options))  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


@pytest.mark.parametrize("mark", ["|", ",", ";", " ", " | ", ", "])
def test_a_column_of_names(mark: str, write: Write) -> None:
    cells = [["dog"], ["cat", "dog"], [], ["cat"], ["bird"], ["dog", "bird", "cat"]]
    lines = [f'photo{i}.jpg,"{mark.join(names)}"' for i, names in enumerate(cells)]
    table = read_table(write("file,what\n" + "\n".join(lines)))
    assert table.labels == ("dog", "cat", "bird")
    assert sets(table) == [set(names) for names in cells]
    assert table.images == [f"photo{i}.jpg" for i in range(6)]
    assert table.lines == [2, 3, 4, 5, 6, 7]
    said = "blanks" if mark == " " else f"'{mark.strip()}'"
    assert (
        table.recognised
        == f"table.csv: 6 rows, images in column 'file', names in column 'what' separated by {said} (3 labels)"
    )


def test_a_column_for_each_label(write: Write) -> None:
    text = "dog,image, traffic  light ,cat\n1,a.jpg,0,\n0.0,b.jpg,1.0,?\ntrue,c.jpg,False,-1\n1,d.jpg,0,1\n"
    table = read_table(write(text))
    assert table.labels == ("dog", "traffic light", "cat")
    assert table.targets.tolist() == [[1, 0, -1], [0, 1, -1], [1, 0, -1], [1, 0, 1]]
    assert table.targets.dtype == np.int8
    assert not table.disagreements.any()
    assert table.recognised == "table.csv: 4 rows, images in column 'image', a 0/1 column for each of 3 labels"


def test_both_at_once_as_in_the_kaggle_file(write: Write) -> None:
    table = read_table(write(KAGGLE))
    assert table.labels == ("motorcycle", "truck", "boat", "sitar", "tabla")
    assert sets(table) == [{"boat"}, {"sitar", "tabla"}, {"tabla"}, {"motorcycle", "truck"}, set()]
    assert not table.disagreements.any()
    assert "separated by blanks and a 0/1 column for each of 5 labels (0 rows disagree)" in table.recognised
    assert "not used" not in table.recognised


def test_names_and_columns_are_checked_against_each_other(write: Write) -> None:
    text = KAGGLE.replace("image3.jpg,   tabla,0,0,0,0,1", "image3.jpg,tabla boat,0,1,0,0,1")
    table = read_table(write(text.replace("0,0,0,1,1", "0,0,0,1,?")))
    assert "(1 row disagree" in table.recognised
    assert table.disagreements.tolist() == [[i == 2 and label in (1, 2) for label in range(5)] for i in range(5)]
    assert table.targets[2].tolist() == [0, 1, 1, 0, 1]
    assert table.targets[1].tolist() == [0, 0, 0, 1, 1]  # an unknown that the names settle


def test_beside_names_an_unknown_stays_unknown_unless_named(write: Write) -> None:
    table = read_table(write("image,labels,dog,cat\na.jpg,dog,?,\nb.jpg,dog|cat,1,1\nc.jpg,,0,0\n"))
    assert table.targets.tolist() == [[1, -1], [1, 1], [0, 0]]
    assert not table.disagreements.any()


def test_names_without_a_column_are_said(write: Write) -> None:
    table = read_table(write("image,tags,dog,cat\na.jpg,dog|tree,1,0\nb.jpg,cat,0,1\n"))
    assert table.labels == ("dog", "cat")
    assert "names without a column ignored: tree" in table.recognised


def test_pasted_tables_as_in_the_kaggle_sibling(write: Write) -> None:
    table = read_table(write(PASTED))
    assert table.labels == ("bus", "person", "sea", "sunset")
    expected: list[set[str]] = [set(), {"bus", "person"}, {"bus"}, {"person"}, {"sea"}, {"sea", "sunset"}, {"sunset"}]
    assert sets(table) == [*expected, {"sea", "sunset"}]
    assert table.images[5] == "image5.img"
    assert table.lines == [3, 4, 5, 6, 8, 9, 10, 12]
    assert "images in column 'Image_Name', names in column 'Classes'" in table.recognised
    assert "2 repeated header lines skipped" in table.recognised


def test_a_first_photo_with_an_odd_ending_is_no_header(write: Write) -> None:
    table = read_table(write("image,labels\na.img,dog\nb.img,cat\nc.jpg,dog\nd.jpg,cat\ne.jpg,cat\n"))
    assert table.images == ["a.img", "b.img", "c.jpg", "d.jpg", "e.jpg"]
    assert "column 'image'" in table.recognised


def test_a_table_without_a_header(write: Write) -> None:
    table = read_table(write("a.jpg,dog|cat\nb.jpg,cat\n"))
    assert table.images == ["a.jpg", "b.jpg"]
    assert table.labels == ("dog", "cat")
    assert "images in column 'column 1'" in table.recognised


@pytest.mark.parametrize("header", ["image_id", "Image Name", "ID", "filename"])
def test_names_without_endings_are_found_by_the_header(header: str, write: Write) -> None:
    table = read_table(write(f"labels,{header}\ndog,0001\ncat,0002\nlabels,{header}\ncat|dog,0003\n"))
    assert table.images == ["0001", "0002", "0003"]
    assert table.labels == ("dog", "cat")


def test_named_columns(write: Write) -> None:
    path = write("who,thumb,tags,mood\nann,a.jpg,dog,calm\nbob,b.jpg,cat,wild\n")
    assert read_table(path).images == ["a.jpg", "b.jpg"]
    assert read_table(path).labels == ("dog", "cat")
    assert "not used: who, mood" in read_table(path).recognised
    assert read_table(path, ReadOptions(image_column="WHO")).images == ["ann", "bob"]
    assert read_table(path, ReadOptions(label_column=" mood ")).labels == ("calm", "wild")


def test_a_named_image_column_may_stand_in_the_second_header_line(write: Write) -> None:
    for rows in ("a.jpg,dog\nb.jpg,cat\n", "a,dog\nb,cat\n"):
        table = read_table(write(f"Column1,Column2\npicture,labels\n{rows}"), ReadOptions(image_column="picture"))
        assert len(table.images) == 2
        assert table.labels == ("dog", "cat")


def test_other_columns_do_not_disturb(write: Write) -> None:
    text = "n,image,labels,checked,width,empty\n0,a.jpg,dog,1,640,\n1,b.jpg,cat,0,480,\n2,c.jpg,dog|cat,1,640,\n"
    table = read_table(write(text + "3,d.jpg,cat,1,640,\n"))
    assert table.labels == ("dog", "cat")
    assert "not used: n, checked, width, empty" in table.recognised


def test_an_image_may_be_called_as_a_header_is(write: Write) -> None:
    assert read_table(write("image,labels\nphoto,dog\n0002,cat\n")).images == ["photo", "0002"]


def test_names_may_be_digits(write: Write) -> None:
    assert read_table(write("image,labels\na.jpg,0\nb.jpg,1\nc.jpg,1\nd.jpg,7|1\n")).labels == ("0", "1", "7")


def test_a_named_label_column_is_no_split(write: Write) -> None:
    table = read_table(write("image,set\na.jpg,train\nb.jpg,test\n"), ReadOptions(label_column="set"))
    assert table.labels == ("train", "test")
    assert table.parts is None


@pytest.mark.parametrize("header", ["split", "Set", "subset"])
def test_a_split_column(header: str, write: Write) -> None:
    path = write(f"image,labels,{header}\na.jpg,dog,Train\nb.jpg,cat,val\nc.jpg,cat,TEST\nd.jpg,cat,valid\n")
    table = read_table(path)
    assert table.parts == ["train", "validation", "test", "validation"]
    assert table.labels == ("dog", "cat")
    assert f"split in column '{header}'" in table.recognised


def test_a_misspelt_part_is_refused_and_not_ignored(write: Write) -> None:
    path = write("image,labels,split\na.jpg,dog,train\nb.jpg,cat,trian\nc.jpg,cat,test\n")
    assert "line 3: 'trian' in the split column 'split': expected train, validation or test" in refusal(path)


@pytest.mark.parametrize("header", ["group", "Groups", "group_id"])
def test_a_group_column(header: str, write: Write) -> None:
    table = read_table(write(f"image,labels,{header}\na.jpg,dog,g 1\nb.jpg,cat,\nc.jpg,cat, g  1 \n"))
    assert table.groups == ["g 1", "", "g 1"]
    assert table.labels == ("dog", "cat")
    assert table.recognised.endswith(f", groups in column '{header}'")
    # Numbers group too, unless they are nothing but 0 and 1.
    table = read_table(write(f"image,dog,{header}\na.jpg,1,0\nb.jpg,0,1\nc.jpg,0,7\n"))
    assert (table.groups, table.labels) == (["0", "1", "7"], ("dog",))
    table = read_table(write(f"image,dog,{header}\na.jpg,1,0\nb.jpg,0,1\nc.jpg,0,?\n"))
    assert (table.groups, table.labels) == (None, ("dog", header))


@pytest.mark.parametrize("header", ["reasons", "Note", "comment"])
def test_remarks_are_never_labels(header: str, write: Write) -> None:
    """Not even the only words in the table, nor where they end with a photo's name as the image column does."""
    for dog, cell in (("1", "copy of b.jpg"), ("1", "fine"), ("0", "1")):
        table = read_table(write(f"{header},image,dog\n{cell},a,{dog}\n{cell} b.jpg,b,0\n"))
        assert table.images == ["a", "b"]
        assert table.labels == ("dog",)
        assert table.recognised.endswith(f"not used: {header}")
    assert read_table(write(f"image,dog,{header}\na.jpg,1,0\nb.jpg,0,1\n")).labels == ("dog", header)
    assert "no labels" in refusal(write(f"image,{header}\na.jpg,fine\n"))
    assert read_table(write(f"image,{header}\na.jpg,fine\n"), ReadOptions(label_column=header)).labels == ("fine",)


def test_a_first_photo_without_ending_is_no_header(write: Write) -> None:
    table = read_table(write("image,labels\nnoext,dog\nb.jpg,cat\nc.jpg,cat\n"))
    assert table.images == ["noext", "b.jpg", "c.jpg"]


@pytest.mark.parametrize(
    "text, images, labels",
    [
        ("image;labels\na.jpg;dog,cat\nb.jpg;dog,bird\n", 2, ("dog", "cat", "bird")),
        ("image;tags(a, b)\na.jpg;dog,cat\nb.jpg;cat,dog\n", 2, ("dog", "cat")),
        ("image,tags(a; b)\na.jpg,dog;cat\nb.jpg,cat;dog\n", 2, ("dog", "cat")),
        ("image\tlabels\na.jpg\tdog, cat\nb.jpg\tcat\n", 2, ("dog", "cat")),
        ("\n\r\n   \nimage\tlabels\n\na.jpg\tdog\n  \t \nb.jpg\tcat\n", 2, ("dog", "cat")),
        ('image,labels\n"a, b.jpg","dog, ""big"""\n', 1, ("dog", '"big"')),
        ("image,labels\ra.jpg,dog\rb.jpg,cat\r", 2, ("dog", "cat")),
    ],
)
def test_delimiters_and_quotes(text: str, images: int, labels: tuple[str, ...], write: Write) -> None:
    table = read_table(write(text))
    assert len(table.images) == images
    assert table.labels == labels


def test_lines_are_counted_as_an_editor_does(write: Write) -> None:
    table = read_table(write('image,labels,note\r\na.jpg,dog,"two\r\nlines"\r\n\r\nb.jpg,cat,\r\n'))
    assert table.lines == [2, 5]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "is empty: expected a header, then one row for each image"),
        ("\ufeff \r\n\t\n", "is empty"),
        (',,\n,,\n"",;\n', "is empty"),
        ("image,labels\n", "has a header and no rows: expected one row for each image"),
        ("image,dog,cat\nimage,dog,cat\n", "has a header and no rows"),
        ("image:labels\na.jpg:dog\n", "has a single column: expected an image column and labels, separated by commas"),
        ("image|labels\na.jpg|dog\n", "has a single column"),
        ("image,labels\na.jpg,dog,cat\n", "line 2: 3 cells, but line 1 has 2. Put cells that contain the delimiter"),
        ("image,dog,cat\na.jpg,1,0\n\nb.jpg\n", "line 4: 1 cell, but line 1 has 3"),
        ("image,labels\na.jpg,dog\n ,cat\n", "line 3: the image cell (column 'image') is empty"),
        (
            'image,labels\na.jpg,dog\n"b.jpg\nc.jpg",dog\n',
            "line 3: the image cell (column 'image') contains a line break",
        ),
        ("image,dog,cat\na.jpg,1,0\nb.jpg,2,1\nc.jpg,0,1\n", "line 3: '2' in the 0/1 column 'dog': expected 0, 1, or"),
        ('image,dog\na.jpg,1\nb.jpg,"x\ny"\nc.jpg,0\n', "line 3: 'x y' in the 0/1 column 'dog'"),
        ("image,dog,cat,dog\na.jpg,1,0,1\n", "more than one column called dog: label names must differ"),
        ("image,form,size\na.jpg,round,x\n", "several columns that could hold the labels (form, size)"),
        ("image,empty\na.jpg,\n", "has an image column but no labels"),
        ("image,labels\na.jpg,|\n", "contains no labels"),
        ("who,what\nann,dog\n", "has no column of image names (found: who, what): name it with --image-column"),
        ("a,b\nc,d\ne,f\ng,h\na.jpg,1\nb.jpg,1\nc.jpg,1\nd.jpg,0\n", "line 4: 'g' does not look like an image's name"),
        ('image,labels\na.jpg,"dog\n' + "x" * 140_000, "line 2: field larger than field limit (131072)"),
        ("image,labels\na.jpg,dog\nb.jpg,do\0g\n", "is not a text file (NUL byte in line 3): expected CSV or TSV"),
    ],
)
def test_what_cannot_be_understood_is_refused(text: str, expected: str, write: Write) -> None:
    assert expected in refusal(write(text))


@pytest.mark.parametrize("encoding, said", [("latin-1", "Windows-1252"), ("cp1252", "'café'"), ("utf-16", "UTF-16")])
def test_other_encodings_are_read_and_said(encoding: str, said: str, write: Write) -> None:
    table = read_table(write("image,labels\na.jpg,dog\nb.jpg,café\n".encode(encoding)))
    assert table.labels == ("dog", "café")
    assert any(said in note for note in table.notes)
    assert not read_table(write("image,labels\na.jpg,dog\nb.jpg,cat\n".encode("latin-1"))).notes


@pytest.mark.parametrize(
    "text, encoding, expected",
    [
        ("собака", "cp1251", "is not UTF-8 (line 3)"),
        ("собака", "koi8-r", "is not UTF-8 (line 3)"),
        ("犬と猫", "shift-jis", "is not UTF-8 (line 3)"),
        ("狗和猫", "gbk", "is not UTF-8 (line 3)"),
        ("café", "utf-16-le", "is UTF-16 without a byte order mark"),
        ("cat", "utf-16-be", "is UTF-16 without a byte order mark"),
    ],
)
def test_encodings_that_cannot_be_told_are_refused(text: str, encoding: str, expected: str, write: Write) -> None:
    assert expected in refusal(write(f"image,labels\na.jpg,dog\nb.jpg,{text}\n".encode(encoding)))


def test_damaged_text_is_refused(write: Write) -> None:
    text = "image,labels\na.jpg,forêt\nb.jpg,été\n"
    assert "is not UTF-8 (line 2)" in refusal(write(text.encode()[:24] + b"\xff" + text.encode()[24:]))
    assert "is damaged UTF-16" in refusal(write(text.encode("utf-16")[:-1]))


def test_a_header_with_a_comma_is_named_in_quotes(write: Write) -> None:
    path = write('image,"dog, small",cat\na.jpg,1,0\nb.jpg,0,1\n')
    assert read_table(path, ReadOptions(label_column=["dog, small"])).labels == ("dog, small",)
    assert "--label-column '\"dog, small\"'" in refusal(path, label_column="dog")


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read (No such file or directory)" in refusal(tmp_path / "none.csv")
    assert "cannot be read (Is a directory)" in refusal(tmp_path)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"image_column": "photo"}, "has no column 'photo' (--image-column); its columns are image, labels"),
        ({"label_column": "tags"}, "has no column 'tags' (--label-column); its columns are image, labels"),
        ({"label_column": "image"}, "the column 'image' names the images, so it cannot be --label-column too"),
    ],
)
def test_unknown_columns_are_refused(options: dict[str, str], expected: str, write: Write) -> None:
    assert expected in refusal(write("image,labels\na.jpg,dog\nb.jpg,cat\n"), **options)


@pytest.mark.parametrize(
    "cells, names, said",
    [
        (["traffic light", "car"], [["traffic light"], ["car"]], "nothing (one name per cell)"),
        (["traffic light|light", "light|car"], [["traffic light", "light"], ["light", "car"]], "'|'"),
        (["traffic light, light", "car"], [["traffic light", "light"], ["car"]], "','"),
        (["sea sunset", "sea", "sunset"], [["sea", "sunset"], ["sea"], ["sunset"]], "blanks"),
        (["sea sunset, bus", "sea", "sunset"], [["sea", "sunset", "bus"], ["sea"], ["sunset"]], "',' and blanks"),
        (["sea sunset|bus", "sea", "sunset"], [["sea sunset", "bus"], ["sea"], ["sunset"]], "'|'"),
        (["Paris, France|night"], [["Paris, France", "night"]], "'|'"),
        ([" a | b|a||", ""], [["a", "b"], []], "'|'"),
    ],
)
def test_separators(cells: list[str], names: list[list[str]], said: str) -> None:
    found = split_names(cells)
    assert (found.sets, found.separator) == ([tuple(row) for row in names], said)


def test_known_names_settle_what_blanks_mean() -> None:
    assert split_names(["red tree", "red"], frozenset({"red", "car"})).sets == [("red", "tree"), ("red",)]
    assert split_names(["red car bus"], frozenset({"red", "car", "bus"})).sets == [("red", "car", "bus")]
    assert split_names(["red car", "bus red car"], frozenset({"red car", "bus"})).sets[0] == ("red car",)


NAME = st.text(
    st.characters(categories=("L", "N"), include_characters="'\"#=-_()&+.äß字"), min_size=1, max_size=8
).filter(lambda name: any(c.isalpha() for c in name) and kind_of(name) is Kind.TEXT and name not in CONJUNCTIONS)
# Hashtags lose their mark, and a lone quote at the start is a sign of a torn list.
NAME = NAME.filter(lambda name: name[0] not in "#'\"")
WORDS = st.lists(NAME, min_size=1, max_size=3).map(" ".join)


def render(rows: list[list[str]], delimiter: str, bom: bool, end: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    return text.getvalue().encode("utf-8-sig" if bom else "utf-8")


LAYOUT = st.tuples(st.sampled_from(",;\t"), st.booleans(), st.sampled_from(["\n", "\r\n"]))


@settings(deadline=None, max_examples=80)
@given(st.data(), LAYOUT, st.sampled_from(["|", ",", ";", " "]))
def test_names_survive_any_layout(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, layout: tuple[str, bool, str], mark: str
) -> None:
    labels = data.draw(st.lists(WORDS if mark == "|" else NAME, min_size=1, max_size=6, unique=True))
    # A lone name for each label shows what a blank means.
    chosen = [[label] for label in labels] + data.draw(
        st.lists(st.lists(st.sampled_from(labels), unique=True), max_size=8)
    )
    # The first row has at least two pieces wherever names hold blanks, so that the mark is seen.
    chosen[0] = labels if mark == "|" else chosen[0]
    cells = [mark.join(names) + ("|" if mark == "|" else "") for names in chosen]
    rows = [["image", "labels"], *([f"{i}.jpg", cell] for i, cell in enumerate(cells))]
    path = tmp_path_factory.getbasetemp() / "names.csv"
    path.write_bytes(render(rows, *layout))
    table = read_table(path)
    assert set(table.labels) == set(labels)
    assert sets(table) == [set(names) for names in chosen]


@settings(deadline=None, max_examples=80)
@given(st.data(), LAYOUT, st.booleans())
def test_columns_survive_any_layout(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, layout: tuple[str, bool, str], with_names: bool
) -> None:
    labels = data.draw(st.lists(WORDS, min_size=1, max_size=6, unique=True))
    k = len(labels)
    values = data.draw(st.lists(st.lists(st.sampled_from([0, 1, -1]), min_size=k, max_size=k), min_size=1, max_size=8))
    values += [[1] * k, [0] * k]  # without a 0, blank and -1 would mean absent
    written = {0: ["0", "0.0", "False"], 1: ["1", "1.0", "TRUE"], -1: ["", "-1", "?"]}
    rows = [["image", *(["labels"] if with_names else []), *labels]]
    for i, row in enumerate(values):
        names = ["|".join(label for label, value in zip(labels, row, strict=True) if value == 1) + "|"]
        cells = [data.draw(st.sampled_from(written[value])) for value in row]
        rows.append([f"{i}.jpg", *(names if with_names else []), *cells])
    path = tmp_path_factory.getbasetemp() / "columns.csv"
    path.write_bytes(render(rows, *layout))
    table = read_table(path)
    assert table.labels == tuple(labels)
    assert table.targets.tolist() == values
    assert not table.disagreements.any()
    assert ("(0 rows disagree)" in table.recognised) == with_names


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=60) | st.text(st.sampled_from('image,labels\n\r\t;|"? 01.jpg\0é')).map(str.encode))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.csv"
    path.write_bytes(b"image,labels\n" * (len(data) % 2) + data)
    try:
        table = read_table(path)
    except DataError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert table.targets.shape == (len(table.images), len(table.labels)) == table.disagreements.shape
        assert all(table.images)
        assert all(table.labels)
