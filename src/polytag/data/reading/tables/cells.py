"""Read CSV, TSV, Parquet and Excel files into a header and columns, without interpreting the columns.

Text files have various encodings and delimiters. They may have no header, several header lines, or headers that are
repeated because tables were pasted together. Parquet files have typed columns. This module hides these differences from
`columns.py`.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polytag.data.reading.options import ReadOptions
from polytag.data.reading.photo_index import PHOTO_EXTENSIONS, PhotoIndex
from polytag.data.reading.tables.column import Column
from polytag.data.reading.tables.parquet import PARQUET_EXTENSIONS, read_parquet
from polytag.data.reading.tables.spreadsheet import OTHER_SPREADSHEETS, SPREADSHEET_EXTENSIONS, read_spreadsheet
from polytag.data.reading.tables.text import read_text
from polytag.data.reading.tables.values import Kind, kind_of
from polytag.errors import DataError, listed

__all__ = ["PARQUET_EXTENSIONS", "Cells", "column_called", "plain", "read_cells", "reads_as_header"]

IMAGE_HEADERS = {"image", "images", "imagename", "imageid", "imagepath", "imagefile", "imageindex", "filename"}
IMAGE_HEADERS |= {"filenames", "filepath", "file", "files", "sourcefile", "path", "photo", "photos", "photoid", "id"}
IMAGE_HEADERS |= {"photoname", "photopath", "photofile", "picture", "pictures", "pictureid", "picturename", "img"}
IMAGE_HEADERS |= {"imgid", "imgname", "imgpath", "imagefilename", "imageurl", "url", "fname", "imageids", "frame"}
IMAGE_HEADERS |= {"bild", "datei", "dateiname", "foto", "fichier", "imagen", "archivo", "immagine", "imagem", "arquivo"}
IMAGE_HEADERS |= {"fil", "filnamn", "bestand", "plik", "画像", "图片", "图像", "文件名", "ファイル名", "файл", "фото"}
NOTE_HEADERS = {"reason", "reasons", "note", "notes", "comment", "comments", "remark", "remarks", "caption"}
HEADER_WORDS = {"label", "labels", "class", "classes", "tag", "tags", "category", "categories", "split", "target"}
MAX_HEADER_LINES = 3
ANY_EXTENSION = "|".join(sorted(extension[1:] for extension in PHOTO_EXTENSIONS))
LOOKS_LIKE_IMAGE = re.compile(rf"\.(?:{ANY_EXTENSION})$", re.IGNORECASE)
NAMING = (Kind.TEXT, Kind.NUMBER, Kind.FRACTION)
"""Kinds of cells that may be file names, unlike 0, 1 and blanks."""

SAMPLE = 200
"""Number of cells of a column that are looked up among the files to check whether the column names photos."""


@dataclass(frozen=True, eq=False)
class Cells:
    """A table of cells.

    Attributes:
        header: the names of the columns, without surrounding blanks.
        columns: the cells below the header, unchanged.
        lines: int64 (n,), the place of each row in the file, from 1.
        image_index: the position of the column that names the images.
        repeats: the number of repeated header lines that were skipped.
        place: the unit that `lines` counts, "line" or "row".
        has_header: whether the file contains the names of the columns.
        notes: messages about what was decided.
    """

    header: list[str]
    columns: list[Column]
    lines: NDArray[np.int64]
    image_index: int
    repeats: int = 0
    place: str = "line"
    has_header: bool = True
    notes: tuple[str, ...] = ()

    @classmethod
    def of_rows(
        cls, header: list[str], rows: Sequence[Sequence[str]], lines: Sequence[int], image_index: int, place: str
    ) -> "Cells":
        """Return a table of these rows."""
        columns = [Column.of(column) for column in zip(*rows, strict=True)] if rows else []
        return cls(header, columns, np.array(lines, dtype=np.int64), image_index, place=place)

    def __len__(self) -> int:
        return len(self.lines)

    def line(self, row: int) -> str:
        """Return the place of a row, such as "line 3"."""
        return f"{self.place} {int(self.lines[row])}"


def read_cells(path: Path, options: ReadOptions | None = None) -> Cells:
    """Read the cells of a file and find its image column.

    Raises:
        DataError: the file cannot be read, has no image column, or has no rows.
    """
    options = options or ReadOptions()
    extension = path.suffix.lower()
    if extension in PARQUET_EXTENSIONS:
        header, columns = read_parquet(path)
        lines = np.arange(1, len(columns[0]) + 1)
        image_index, _, notes = _image_column(path, [header], columns, 0, options)
        return Cells(header, columns, lines, image_index, place="row", notes=notes)
    note = None
    if extension in (*SPREADSHEET_EXTENSIONS, *OTHER_SPREADSHEETS):
        columns, lines, note = read_spreadsheet(path)
    else:
        columns, lines, note = read_text(path)
    place = "row" if extension in SPREADSHEET_EXTENSIONS else "line"
    return _below_header(path, columns, lines, place, options, () if note is None else (note,))


def plain(header: str) -> str:
    """Return the first word of a header in lower case, without blanks and punctuation: " Classes(a, b)" → "classes"."""
    return re.sub(r"[\s_\-#.]", "", re.split(r"[(\[{:]", header)[0]).lower()


def reads_as_header(image: str) -> bool:
    """Return whether a cell in the image column would be mistaken for a repeated header."""
    return not looks_like_image(image) and plain(image) in IMAGE_HEADERS


def column_called(header: Sequence[str], name: str, path: Path, flag: str) -> int:
    """Return the position of the column that the user named with this flag."""
    wanted = " ".join(name.split())
    for same in (str, str.lower):
        for i, cell in enumerate(header):
            if same(cell) == same(wanted):
                return i
    split = next(
        (cell for cell in header if "," in cell and wanted in (part.strip() for part in cell.split(","))), None
    )
    advice = f"; a name that contains a comma needs double quotes: {flag} '\"{split}\"'" if split else ""
    raise DataError(f"{path} has no column '{name}' ({flag}); its columns are {listed(list(header), 20)}{advice}")


def looks_like_image(cell: str) -> bool:
    """Return whether a cell ends with the extension of a photo. The cell may be a URL with a query."""
    cell = cell.strip()
    if "?" in cell:
        path, _, query = cell.partition("?")
        return bool(LOOKS_LIKE_IMAGE.search(path) or LOOKS_LIKE_IMAGE.search(query))
    return bool(LOOKS_LIKE_IMAGE.search(cell))


def _below_header(
    path: Path,
    columns: list[Column],
    lines: NDArray[np.int64],
    place: str,
    options: ReadOptions,
    notes: tuple[str, ...],
) -> Cells:
    """Separate the header from the rows."""
    n = len(lines)
    top = [[column.words[column.codes[row]] for column in columns] for row in range(min(n, MAX_HEADER_LINES + 1))]
    image_index, header_lines, said = _image_column(path, top[:MAX_HEADER_LINES], columns, 1, options)
    image = columns[image_index]
    by_extension = _share_of_images(image, top[0][image_index] if n > 1 else None) >= 0.5
    if by_extension:
        header_lines = _header_lines(path, top, columns, image_index, lines)
    if header_lines and _is_data(top[header_lines - 1], columns, image_index):
        header_lines -= 1
    header = top[header_lines - 1] if header_lines else [f"column {i + 1}" for i in range(len(columns))]
    rows = np.arange(n) >= header_lines
    if header_lines:
        # If tables were pasted together, the header is repeated further down.
        repeated = np.ones(n, dtype=bool)
        if by_extension:
            repeated = np.array([reads_as_header(word) for word in image.words])[image.codes]
        else:
            for column, cell in zip(columns, header, strict=True):
                repeated &= np.array([word == cell for word in column.words])[column.codes]
        rows &= ~repeated
    if not rows.any():
        raise DataError(f"{path} has a header and no rows: expected one row for each image")
    kept = np.flatnonzero(rows)
    return Cells(
        header,
        [column.take(kept) for column in columns],
        lines[kept],
        image_index,
        n - header_lines - len(kept),
        place,
        bool(header_lines),
        (*notes, *said),
    )


def _header_lines(
    path: Path, top: list[list[str]], columns: list[Column], image_index: int, lines: NDArray[np.int64]
) -> int:
    """Return the number of lines above the first image."""
    cells = [row[image_index] for row in top]
    if plain(cells[0]) in IMAGE_HEADERS:
        return 1
    # Unlike a file name, a header has no extension. Any extension counts, because the file may not be an image.
    data = (i for i, cell in enumerate(cells) if looks_like_image(cell) or (i and Path(cell).suffix))
    header_lines = next(data, len(top))
    if header_lines > MAX_HEADER_LINES:
        raise DataError(
            f"{path}, line {lines[MAX_HEADER_LINES]}: '{cells[MAX_HEADER_LINES]}' does not look like an image's "
            f"name: expected at most {MAX_HEADER_LINES} header lines, then one row for each image"
        )
    return header_lines


def _is_data(row: list[str], columns: list[Column], image_index: int) -> bool:
    """Return whether a possible header is a data row, with labels that recur below and without known headers."""
    if looks_like_image(row[image_index]):
        return True
    if any(plain(cell) in IMAGE_HEADERS | HEADER_WORDS for cell in row):
        return False
    if _count(columns[image_index], row[image_index]) > 1:
        return False
    others = [(column, cell) for i, (column, cell) in enumerate(zip(columns, row, strict=True)) if i != image_index]
    return any(cell and (_count(column, cell) > 1 or _pieces_recur(column, cell)) for column, cell in others)


def _count(column: Column, cell: str) -> int:
    return sum(n for word, n in zip(column.words, column.counts.tolist(), strict=True) if word == cell)


def _pieces_recur(column: Column, cell: str) -> bool:
    """Return whether all names in a cell also occur in other cells."""
    marks = r"[|;,，、\s]+"
    below = {piece for word in column.words if word != cell for piece in re.split(marks, word)}
    pieces = [piece for piece in re.split(marks, cell) if piece]
    return bool(pieces) and all(piece in below for piece in pieces) and not cell.isdecimal()


def _share_of_images(column: Column, header: str | None) -> float:
    """Return the fraction of cells that look like images, without the first line if it may be a header."""
    looks = [looks_like_image(word) for word in column.words]
    n = sum(count for count, like in zip(column.counts.tolist(), looks, strict=True) if like)
    rows = len(column)
    if header is not None:
        rows -= 1
        n -= looks[column.words.index(header)]
    return n / max(1, rows)


def _image_column(
    path: Path, top: list[list[str]], columns: list[Column], first: int, options: ReadOptions
) -> tuple[int, int, tuple[str, ...]]:
    """Return the column that names the images, the line of its header, and notes about the decision.

    Args:
        path: the table.
        top: the lines that may be the header.
        columns: all cells, including the header if `first` is 1.
        first: the number of lines at the top to ignore when columns are examined, 0 or 1.
        options: options for reading, which may name the column.
    """
    header = top[0]
    if options.image_column is not None:
        wanted = " ".join(options.image_column.split()).lower()
        found = [(i, n) for n, row in enumerate(top, start=1) for i, cell in enumerate(row) if cell.lower() == wanted]
        i, n = found[0] if found else (column_called(header, options.image_column, path, "--image-column"), 1)
        return i, n, ()
    skip = bool(first) and len(columns[0]) > 1
    shares = [
        0.0 if plain(header[i]) in NOTE_HEADERS else _share_of_images(column, header[i] if skip else None)
        for i, column in enumerate(columns)
    ]
    likely = [i for i, share in enumerate(shares) if share >= 0.5]
    if len(likely) == 1:
        return likely[0], 1, ()
    if likely:
        i, note = _whose_files_exist(path, header, columns, likely, options)
        return i, 1, (note,) if note else ()
    for line, row in enumerate(top, start=1):
        called = [i for i, cell in enumerate(row) if plain(cell) in IMAGE_HEADERS]
        if len(called) == 1:
            return called[0], line, ()
        if called:
            # Among headers such as id and file_id, the column whose files exist is chosen, or else the first.
            i, note = _whose_files_exist(path, row, columns, called, options, strict=False)
            return i, line, (note,) if note else ()
    named = _by_files(path, columns, options)
    if named is not None:
        first_found = bool(_index(path, options).find(header[named]).files)
        note = f"column '{header[named]}' names the images, because files with these names exist"
        return named, 0 if first_found else 1, () if first_found else (note,)
    raise DataError(f"{path} has no column of image names (found: {listed(header)}): name it with --image-column")


def _index(path: Path, options: ReadOptions) -> PhotoIndex:
    return PhotoIndex([options.images if options.images is not None else path.parent])


def _hits(index: PhotoIndex, column: Column) -> tuple[float, float]:
    """Return the fraction of sampled cells that name files, and about how many files the whole column names."""
    words = [word for word in column.words if word]
    sample = words[1 :: max(1, len(words) // SAMPLE)] or words
    share = sum(bool(index.find(word).files) for word in sample) / max(1, len(sample))
    return share, share * len(words)


def _by_files(path: Path, columns: list[Column], options: ReadOptions) -> int | None:
    """Return the column whose cells are file names, or ``None`` if there is no such column."""
    index = _index(path, options)
    if not len(index):
        return None
    # Even if there are files called 0.jpg and 1.jpg, a column of 0 and 1 holds labels.
    possible = [any(kind_of(word) in NAMING for word in column.words[1:]) for column in columns]
    hits = [_hits(index, column) if may_be else (0.0, 0.0) for column, may_be in zip(columns, possible, strict=True)]
    best = max(range(len(columns)), key=lambda i: hits[i])
    return best if hits[best][0] >= 0.5 else None


def _whose_files_exist(
    path: Path,
    header: list[str],
    columns: list[Column],
    candidates: list[int],
    options: ReadOptions,
    strict: bool = True,
) -> tuple[int, str | None]:
    """Choose, among columns that may name the images, the one that names the most existing files."""
    index = _index(path, options)
    hits = {i: _hits(index, columns[i]) for i in candidates}
    best = max(candidates, key=lambda i: hits[i][1])
    if not hits[best][0]:
        return candidates[0], None
    rivals = [i for i in candidates if i != best and hits[i][1] >= 0.8 * hits[best][1]]
    for rival in rivals if strict else ():
        if not _same_files(index, columns[best], columns[rival]):
            raise DataError(
                f"{path} names photos in the columns {listed([header[i] for i in (best, *rivals)])}, and all "
                "their files exist: choose one with --image-column"
            )
    others = [header[i] for i in candidates if i != best]
    return best, f"images in column '{header[best]}', whose files exist, not in {listed(others)}" if strict else None


def _same_files(index: PhotoIndex, a: Column, b: Column) -> bool:
    """Return whether two columns name the same files in a sample of rows."""
    rows = range(1, len(a), max(1, len(a) // SAMPLE))
    pairs = ((a.words[a.codes[row]], b.words[b.codes[row]]) for row in rows)
    return all(
        os.path.normpath(x) == os.path.normpath(y) or index.find(x).files == index.find(y).files for x, y in pairs
    )
