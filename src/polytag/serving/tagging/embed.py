"""Write the embeddings of photos to a file."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from polytag.errors import ImageError, PolytagError, SettingsError, counted, printable
from polytag.files import refuse_same_file, write_atomically, write_bytes_atomically
from polytag.models.encoders.embedder import Embedder
from polytag.models.runtimes.photos import named_stream
from polytag.photos.kinds import left_out
from polytag.serving.tagging.rows import ROWS_AT_ONCE
from polytag.serving.tagging.sources import photos_in

Row = tuple[str, NDArray[np.float32] | ImageError]
"""A photo's path, and its embedding, float32 (width,), or the error that explains why it cannot be read."""


def check_embeddings(out: Path, overwrite: bool) -> None:
    """Check that a file with embeddings can be written.

    Raises:
        SettingsError: the extension is unknown, or the file already exists.
    """
    if out.suffix not in (".parquet", ".npy"):
        raise SettingsError(f"--out {out} must end in .parquet or .npy")
    for path in (out, *([names_file(out)] if out.suffix == ".npy" else [])):
        if path.exists() and not overwrite:
            raise SettingsError(f"{path} exists already: choose another --out, or add --overwrite")


def names_file(out: Path) -> Path:
    """Return the path of the list that names the photos of a ``.npy`` file, one per line."""
    return out.with_suffix(".txt")


def write_embeddings(
    embedder: Embedder,
    sources: Sequence[str],
    out: Path,
    *,
    overwrite: bool = False,
    on_photo: Callable[[int], object] = lambda photos: None,
) -> list[str]:
    """Embed photos and write the embeddings.

    ``.parquet`` has the columns image, embedding (a list of float32; empty for photos that cannot be read) and error.
    ``.npy`` is an array, float32 (n, width), with NaN for photos that cannot be read. The list beside it names them.

    Args:
        embedder: what computes the embeddings.
        sources: files, folders, patterns and lists, as for `photos_in`.
        out: file to write, which appears only when it is complete.
        overwrite: whether an existing file may be replaced.
        on_photo: called with the number of photos embedded since the last call.

    Returns:
        Notes for the user: what was left out.

    Raises:
        SettingsError: the file cannot be written.
        DataError: a source contains no photos.
        PolytagError: no photo could be read. Nothing is written.
    """
    check_embeddings(out, overwrite)
    refuse_same_file(out, [source for source in sources if source != "-"])
    skipped: Counter[str] = Counter()
    tally, first = Counter[bool](), ""
    photos: Iterable[str] = photos_in(sources, skipped)
    if out.suffix == ".npy":
        photos = list(photos)  # The header of the file states their number.

    def rows() -> Iterator[Row]:
        nonlocal first
        for name, found in named_stream(embedder.stream, ((photo, photo) for photo in photos)):
            bad = isinstance(found, ImageError)
            tally[bad] += 1
            if bad and not first:
                first = f"{printable(name)}: {printable(str(found))}"
            yield name, found
            on_photo(1)
        if not tally[False]:
            raise PolytagError(f"none of {counted(tally[True], 'photo')} could be read")

    with write_bytes_atomically(out) as file:
        if isinstance(photos, list):
            _write_npy(rows(), (len(photos), embedder.width), file)
        else:
            write_embedding_rows(rows(), embedder.width, file)
    if isinstance(photos, list):
        with write_atomically(names_file(out)) as text:
            text.reconfigure(errors="surrogateescape")
            text.writelines(f"{name}\n" for name in photos)
    bad = (
        f"{tally[True]:,} of {counted(tally.total(), 'photo')} could not be read. First: {first}" if tally[True] else ""
    )
    return [note for note in (left_out(skipped), bad) if note]


def _write_npy(rows: Iterable[Row], shape: tuple[int, int], file: BinaryIO) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    unread = np.full(shape[1], np.nan, "<f4")
    for _, found in rows:
        file.write((unread if isinstance(found, ImageError) else found.astype("<f4")).tobytes())


def write_embedding_rows(rows: Iterator[Row], width: int, file: BinaryIO) -> None:
    """Write Parquet with the columns image, embedding (list of ``width`` floats, nullable) and error (nullable)."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    vectors = pa.list_(pa.float32(), width)
    schema = pa.schema([("image", pa.string()), ("embedding", vectors), ("error", pa.string())])
    with ParquetWriter(file, schema) as writer:
        while some := list(islice(rows, ROWS_AT_ONCE)):
            columns = [
                # Parquet requires UTF-8, but file names may contain other bytes.
                [name.encode("utf-8", "backslashreplace").decode() for name, _ in some],
                [None if isinstance(found, ImageError) else found for _, found in some],
                [str(found) if isinstance(found, ImageError) else None for _, found in some],
            ]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
