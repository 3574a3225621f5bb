"""An index of the files below some folders, and which of them a name means.

Names may come from another machine, as a URL or with another ending; the longest agreeing end of the path decides.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from polytag.photos.kinds import EXTENSIONS

PHOTO_ENDINGS = EXTENSIONS
"""Endings that may differ between a table and the file, or be missing in the table."""

UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""What annotation tools put before the name of an uploaded file."""

SHOWN = 4
"""How many candidates of an ambiguous name are kept."""

ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")
"""Leading zeros of a number, which spreadsheets drop."""


def key(text: str) -> str:
    """Text as it is compared: without case and in one Unicode form."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


@dataclass(frozen=True)
class Match:
    """What an index holds for one name.

    Attributes:
        files: one file if the name is found, several if it is ambiguous, none if it is missing.
        agreeing: how many folders at the end of the path agree with the name.
        without_prefix: found only without the prefix that an annotation tool puts before an upload.
    """

    files: tuple[str, ...] = ()
    agreeing: int = 0
    without_prefix: bool = False


MISSING = Match()


class _Tails:
    """The files of one stem by the folders at the end of their paths, so that 200,000 ``view1.jpg`` are no burden."""

    def __init__(self, files: list[str]):
        self.files = files
        self.names = {key(os.path.basename(file)) for file in files}
        self._depths: list[dict[tuple[str, ...], list[str]]] = []

    def nearest(self, folders: Sequence[str]) -> tuple[int, list[str]]:
        """How many folders agree at most, from the last on, and the files where they do; only some if none do."""
        most, files = 0, self.files[: 2 * SHOWN]
        for depth in range(1, len(folders) + 1):
            if len(self._depths) < depth:
                groups: dict[tuple[str, ...], list[str]] = {}
                for file in self.files:
                    groups.setdefault(_last_folders(file, depth), []).append(file)
                self._depths.append(groups)
            found = self._depths[depth - 1].get(tuple(folders[:depth]))
            if found is None:
                break
            most, files = depth, found
        return most, files


def _last_folders(file: str, n: int) -> tuple[str, ...]:
    """The last n folders of a path, the last first."""
    return tuple(key(part) for part in reversed(os.path.dirname(file).split(os.sep)[-n:]))


class PhotoIndex:
    """The files below some folders, by name without case, Unicode form and photo ending.

    Args:
        homes: folders, the nearest first. A folder inside another is part of it.
    """

    def __init__(self, homes: Sequence[str | os.PathLike[str]]):
        self.homes = tuple(dict.fromkeys(os.path.realpath(home) for home in homes))
        self._by_stem: dict[str, str | list[str]] = {}
        self._files: set[str] = set()
        self._tails: dict[str, _Tails] = {}
        for home in self.homes:
            if not any(other != home and is_below(home, other) for other in self.homes):
                for file in _walk(home):
                    self._add(file)

    @classmethod
    def of_files(cls, files: Iterable[str], root: str = "/") -> "PhotoIndex":
        """Index names that are already known, relative to a root."""
        index = cls(())
        index.homes = (root,)
        for file in files:
            index._add(os.path.join(root, file))
        return index

    def __len__(self) -> int:
        return len(self._files)

    def _add(self, file: str) -> None:
        self._files.add(file)
        stem = stem_key(os.path.basename(file))
        known = self._by_stem.setdefault(stem, file)
        if known is not file:
            if isinstance(known, str):
                self._by_stem[stem] = [known, file]
            else:
                known.append(file)

    def find(self, name: str) -> Match:
        """Find the file that a table's name means."""
        spellings = spellings_of(name)
        for spelling in spellings:
            match = self._match(spelling)
            if match.files:
                return match
        for spelling in spellings:
            folder, _, base = spelling.rpartition("/")
            if UPLOAD_PREFIX.match(base):
                match = self._match(f"{folder}/{UPLOAD_PREFIX.sub('', base)}")
                if match.files:
                    return Match(match.files, match.agreeing, without_prefix=True)
        return MISSING

    def _match(self, name: str) -> Match:
        parts = [part for part in name.split("/") if part not in ("", ".", "..")]
        if not parts:
            return MISSING
        base = parts[-1]
        found = self._by_stem.get(stem_key(base))
        if found is None:
            return MISSING
        exact = self._exactly(name)
        if exact is not None:
            return Match((exact,), len(parts) - 1)
        folders = [key(part) for part in reversed(parts[:-1])]
        if isinstance(found, str):
            return Match((found,), _agreeing(found, folders))
        tails = self._tails.get(stem_key(base))
        if tails is None:
            tails = self._tails[stem_key(base)] = _Tails(found)
        most, nearest = tails.nearest(folders)
        same_name = [file for file in nearest if key(os.path.basename(file)) == key(base)] if nearest else []
        # A file of the same name elsewhere and a file of another ending here: nothing tells which is meant.
        if not same_name and key(base) in tails.names:
            elsewhere = next(file for file in found if key(os.path.basename(file)) == key(base))
            return Match(tuple(sorted({elsewhere, *nearest[:SHOWN]})), most)
        nearest = same_name or nearest
        to_the_letter = [file for file in nearest if os.path.basename(file) == base]
        if len(to_the_letter) == 1:
            nearest = to_the_letter
        return Match(tuple(sorted(nearest)), most)

    def _exactly(self, name: str) -> str | None:
        """The file at this path, relative to one of the homes."""
        for home in self.homes:
            file = os.path.normpath(os.path.join(home, name))
            if file in self._files:
                return file
        return None

    def lost_zeros(self, names: Iterable[str], taken: Iterable[str]) -> tuple[str, str] | None:
        """A name that is missing and a file that no name means, which differ only in leading zeros."""
        short: dict[str, str] = {}
        for name in names:
            stem = stem_key(spellings_of(name)[0].rpartition("/")[2])
            if ZEROS.sub("", stem) == stem:
                short.setdefault(stem, name)
        claimed = set(taken)
        for stem, files in self._by_stem.items():
            name_without = short.get(ZEROS.sub("", stem)) if "0" in stem else None
            file = files if isinstance(files, str) else files[0]
            if name_without is not None and stem not in short and file not in claimed:
                return name_without, file
        return None


def _walk(home: str) -> Iterable[str]:
    """All files in and below a folder, but hidden ones. Links to folders inside are not followed twice."""
    waiting = [home]
    linked: set[str] = set()
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.name.startswith((".", "__MACOSX")):
                        continue
                    if not entry.is_dir():
                        yield entry.path
                    elif not entry.is_symlink():
                        waiting.append(entry.path)
                    else:
                        target = os.path.realpath(entry.path)
                        if target not in linked and not is_below(target, home) and not is_below(home, target):
                            linked.add(target)
                            waiting.append(entry.path)
        except (PermissionError, FileNotFoundError, NotADirectoryError):
            continue  # what may not be looked into holds no photos that could be read


def is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def stem_key(base: str) -> str:
    stem, ending = os.path.splitext(base)
    return key(stem if ending.lower() in PHOTO_ENDINGS else base)


def _agreeing(file: str, folders: Sequence[str]) -> int:
    """How many folders, from the last on, the file's path has in common with a name."""
    n = 0
    path = os.path.dirname(file)
    for folder in folders:
        if key(os.path.basename(path)) != folder:
            break
        n += 1
        path = os.path.dirname(path)
    return n


def spellings_of(name: str) -> list[str]:
    """How a name may be meant: as a path, with ``\\`` as ``/``, and as a URL."""
    path = name.strip()
    if "\\" in path:
        path = path.replace("\\", "/")
    spellings = [path]
    if "?" in path or "%" in path or "://" in path:
        try:
            parsed = urlsplit(path)
        except ValueError:
            return spellings
        local = parse_qs(parsed.query).get("d")  # Label Studio's /data/local-files/?d=folder/a.jpg
        spellings.append(unquote(local[0] if local else parsed.path))
    return spellings


def folders_of(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".", "..")][:-1]
