"""Shards: portions of the photos, each of which one worker tags into one output file."""

import glob
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from polytag.errors import ImageError
from polytag.serving.scale.parquet import bytes_column, is_parquet, names_in, open_parquet, photos_inside
from polytag.serving.scale.storage import contents, found_at, is_url
from polytag.serving.tagging.sources import photos_in

SHARD = 500
"""Number of photos in a shard. It takes a core a few seconds, which is what a killed worker loses."""


@dataclass(frozen=True)
class Shard:
    """Some of the photos: either their names, or some row groups of a Parquet file that contains them.

    Attributes:
        number: position among the shards, from 0.
        photos: number of photos.
        names: URLs and paths of photos, as given.
        parquet: URL or path of a Parquet file; "" for photos in files of their own.
        groups: numbers of the file's row groups.
    """

    number: int
    photos: int
    names: tuple[str, ...] = ()
    parquet: str = ""
    groups: tuple[int, ...] = ()

    def to_json(self) -> str:
        """Return the shard as one line of ASCII."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> "Shard":
        """Parse a line created by `to_json`."""
        found = json.loads(line)
        return cls(**{**found, "names": tuple(found["names"]), "groups": tuple(found["groups"])})

    @property
    def file(self) -> str:
        """Name of the output file. It depends on the photos, so a changed source never passes for a finished shard."""
        return f"part-{self.number:06d}-{hashlib.sha256(self.to_json().encode()).hexdigest()[:12]}.parquet"

    def read(self, folder: str) -> Iterator[tuple[str, bytes | str | ImageError]]:
        """Yield the name of each photo, and its content, its path, or the error that explains why it cannot be read.

        Args:
            folder: folder that relative paths start from.

        Raises:
            DataError: the Parquet file cannot be read.
            MachineError: the object store cannot be reached.
        """
        if self.parquet:
            yield from photos_inside(self.parquet, self.groups, folder)
            return
        remote = contents(name for name in self.names if is_url(name))
        for name in self.names:
            yield name, next(remote) if is_url(name) else os.path.join(folder, name)


def shards(sources: Sequence[str], skipped: Counter[str], size: int = SHARD) -> Iterator[Shard]:
    """Divide the photos of the sources into shards, in a fixed order.

    Besides the sources of `photos_in`, a source may be a Parquet file, and all except "-" may be URLs.

    Args:
        sources: the sources, in order.
        skipped: counter by kind of file, to which the skipped files in folders are added.
        size: number of photos per shard. Row groups of Parquet files are not divided.

    Raises:
        DataError: a source contains no photos or cannot be read.
        MachineError: the object store cannot be reached.
    """
    number = 0
    waiting: list[str] = []
    for item in _items(sources, skipped):
        if isinstance(item, str):
            waiting.append(item)
        if waiting and (len(waiting) == size or not isinstance(item, str)):
            yield Shard(number, len(waiting), tuple(waiting))
            number, waiting = number + 1, []
        if not isinstance(item, str):
            for groups, photos in _portions(item, size):
                yield Shard(number, photos, parquet=item.path, groups=groups)
                number += 1
    if waiting:
        yield Shard(number, len(waiting), tuple(waiting))


@dataclass(frozen=True)
class _WithPhotos:
    """A Parquet file that contains photos, with the number of rows in each row group."""

    path: str
    rows: tuple[int, ...]


def _portions(file: _WithPhotos, size: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Divide the row groups into portions of at least ``size`` photos, with the number of photos in each."""
    groups: list[int] = []
    photos = 0
    for group, rows in enumerate(file.rows):
        groups.append(group)
        photos += rows
        if photos >= size or group == len(file.rows) - 1:
            yield tuple(groups), photos
            groups, photos = [], 0


def _items(sources: Sequence[str], skipped: Counter[str]) -> Iterator[str | _WithPhotos]:
    """Yield the names of photos, and the Parquet files that contain photos."""
    for source in sources:
        for name in _files(source, skipped):
            if not is_parquet(name):
                yield name
                continue
            with open_parquet(name) as file:
                rows = tuple(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
                inside = bytes_column(file.schema_arrow) is not None
            if inside:
                yield _WithPhotos(name, rows)
            else:
                yield from names_in(name)


def _files(source: str, skipped: Counter[str]) -> Iterator[str]:
    """Yield the names of the photos and Parquet files in a source."""
    if is_url(source):
        return found_at(source, skipped)
    if is_parquet(source) and os.path.isdir(source):  # Spark and Ray write folders with such names.
        source = os.path.join(glob.escape(source), "**", "*.parquet")
    found = photos_in([source], skipped)
    # The operating system lists the matches of a pattern in any order, but a run can only be continued in the same one.
    return iter(sorted(found)) if glob.has_magic(source) and not os.path.lexists(source) else found
