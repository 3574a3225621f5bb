"""Write the embeddings of photos to a file, in one run or in several.

Memory does not grow with the number of photos: finished rows wait on disk, see `UnfinishedRows`.
"""

import json
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from polytag.errors import ImageError, PolytagError, SettingsError, counted, printable
from polytag.files import refuse_same_file, unfinished, write_atomically, write_bytes_atomically
from polytag.models.encoders.embedder import Embedder
from polytag.models.runtimes.onnx import batch_size_of
from polytag.models.runtimes.photos import named_stream
from polytag.photos.kinds import left_out
from polytag.serving.tagging.rows import ROWS_AT_ONCE
from polytag.serving.tagging.sources import named, photos_in
from polytag.serving.tagging.unfinished import UnfinishedRows, check_output

Row = tuple[str, NDArray[np.float32] | ImageError]
"""A photo's path, and its embedding, float32 (width,), or the error that explains why it cannot be read."""


def check_embeddings(out: Path, resume: bool, overwrite: bool) -> None:
    """Check that a file with embeddings can be written.

    Raises:
        SettingsError: the extension is unknown, the file already exists, or an interrupted run left its rows.
    """
    if out.suffix not in (".parquet", ".npy"):
        raise SettingsError(f"--out {out} must end in .parquet or .npy")
    check_output(out, resume, overwrite)
    continuing = overwrite or (resume and unfinished(out).exists())
    if out.suffix == ".npy" and names_file(out).exists() and not continuing:
        raise SettingsError(f"{names_file(out)} exists already: choose another --out, or add --overwrite")


def names_file(out: Path) -> Path:
    """Return the path of the list that names the photos of a ``.npy`` file, one per line."""
    return out.with_suffix(".txt")


def write_embeddings(
    embedder: Embedder,
    sources: Sequence[str],
    out: Path,
    *,
    resume: bool = False,
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
        resume: continue an interrupted run. Its embeddings are kept as long as the photos come in the same order.
        overwrite: whether an existing file may be replaced.
        on_photo: called with the number of photos embedded since the last call.

    Returns:
        Notes for the user: what was left out.

    Raises:
        SettingsError: the file cannot be written, or continued with this embedder.
        DataError: a source contains no photos.
        PolytagError: no photo could be read. Nothing is written.
    """
    check_embeddings(out, resume, overwrite)
    for file in (out, names_file(out)) if out.suffix == ".npy" else (out,):
        refuse_same_file(file, named(sources))
    settings = {"embeddings": embedder.key, "image_size": embedder.image_size, "width": embedder.width}
    rows = UnfinishedRows(out, settings, "network", resume, overwrite)
    skipped: Counter[str] = Counter()
    photos = _after(rows, photos_in(sources, skipped), batch_size_of(embedder.run))
    on_photo(rows.done)

    def lines() -> Iterator[str]:
        for row in named_stream(embedder.stream, ((photo, photo) for photo in photos)):
            yield _to_line(row)
            on_photo(1)

    rows.add(lines())
    unreadable, first = _unreadable(rows)
    if unreadable == rows.done:
        rows.remove()
        raise PolytagError(f"none of {counted(unreadable, 'photo')} could be read")
    _write(rows, embedder.width, out)
    rows.remove()
    bad = f"{unreadable:,} of {counted(rows.done, 'photo')} could not be read. First: {first}" if unreadable else ""
    return [note for note in (left_out(skipped), bad) if note]


def _after(rows: UnfinishedRows, photos: Iterator[str], batch_size: int) -> Iterator[str]:
    """Keep the rows that earlier runs wrote for the first of these photos, and return the other photos.

    Only whole batches are kept, because the same photo in another batch can give an embedding with other last digits.
    """
    kept, batch = 0, list[str]()
    with rows.lines() as lines:
        for line in lines:
            following = list(islice(photos, 1))
            batch += following
            if following != [_from_line(line)[0]]:
                break
            if len(batch) == batch_size:
                kept, batch = kept + batch_size, []
    rows.keep(kept)
    return chain(batch, photos)


def _to_line(row: Row) -> str:
    name, found = row
    if isinstance(found, ImageError):
        return json.dumps([name, False, str(found)], ensure_ascii=False)
    return json.dumps([name, True, b64encode(found.astype("<f4").tobytes()).decode()], ensure_ascii=False)


def _from_line(line: str) -> Row:
    name, readable, content = json.loads(line)
    return name, np.frombuffer(b64decode(content), "<f4") if readable else ImageError(content)


def _unreadable(rows: UnfinishedRows) -> tuple[int, str]:
    """Return the number of photos that cannot be read, and the first of them with its error."""
    count, first = 0, ""
    with rows.lines() as lines:
        for name, found in map(_from_line, lines):
            if isinstance(found, ImageError):
                count += 1
                first = first or f"{printable(name)}: {printable(str(found))}"
    return count, first


def _write(rows: UnfinishedRows, width: int, out: Path) -> None:
    with rows.lines() as lines, write_bytes_atomically(out) as file:
        if out.suffix == ".npy":
            _write_npy(map(_from_line, lines), (rows.done, width), file)
        else:
            write_embedding_rows(map(_from_line, lines), width, file)
    if out.suffix == ".npy":
        with rows.lines() as lines, write_atomically(names_file(out)) as text:
            text.reconfigure(errors="surrogateescape")
            text.writelines(f"{_from_line(line)[0]}\n" for line in lines)


def _write_npy(rows: Iterable[Row], shape: tuple[int, int], file: BinaryIO) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    unread = np.full(shape[1], np.nan, "<f4")
    for _, found in rows:
        file.write((unread if isinstance(found, ImageError) else found).tobytes())


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
