"""Index the files below a list of folders, and find the file that a name refers to.

A name may be a path from another machine, be a URL or have a different extension, so the file whose path agrees with
the end of the name in the most folders is chosen.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from polytag.photos.kinds import EXTENSIONS

PHOTO_EXTENSIONS = EXTENSIONS
"""Extensions that may differ between a table and the file, or be missing from the table."""

UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""Prefix that annotation tools add to the name of an uploaded file."""

SHOWN = 4
"""Number of candidates that are reported for an ambiguous name."""

ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")
"""Leading zeros of a number, which spreadsheets drop."""


def key(text: str) -> str:
    """Return text in the form used for comparisons: case-folded and with normalized Unicode."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


@dataclass(frozen=True, slots=True)
class Match:
    """The result of looking up a name in an index.

    Attributes:
        files: one file if the name is found, several files if it is ambiguous, empty if it is missing.
        agreeing: number of folders at the end of the path that agree with the name.
        without_prefix: whether the file was only found without the prefix that an annotation tool adds to uploads.
    """

    files: tuple[str, ...] = ()
    agreeing: int = 0
    without_prefix: bool = False


MISSING = Match()


class _Tails:
    """Files with the same stem, indexed by the last folders of their paths.

    The index keeps look-ups fast even if there are 200,000 files called ``view1.jpg``.
    """

    def __init__(self, files: list[str]):
        self.files = files
        self.names = {key(os.path.basename(file)) for file in files}
        self._depths: list[dict[tuple[str, ...], list[str]]] = []

    def nearest(self, folders: Sequence[str]) -> tuple[int, list[str]]:
        """Return the maximum number of agreeing folders, counted from the last folder, and the files that reach it.

        If no folder agrees, only the first few files are returned.
        """
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
    """Return the last n folders of a path, starting with the last."""
    return tuple(key(part) for part in reversed(os.path.dirname(file).split(os.sep)[-n:]))


class PhotoIndex:
    """Index of the files below a list of folders, by name. Case, Unicode form and photo extension are ignored.

    Args:
        homes: the folders, nearest first. A folder inside another folder is not indexed twice.
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
        """Return an index of known files, whose paths are relative to a root."""
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
        """Find the file that a name in a table refers to."""
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
        # One file has the same name but is in another folder, and one is in the right folder but has another extension.
        # Either could be meant, so the name is ambiguous.
        if not same_name and key(base) in tails.names:
            elsewhere = next(file for file in found if key(os.path.basename(file)) == key(base))
            return Match(tuple(sorted({elsewhere, *nearest[:SHOWN]})), most)
        nearest = same_name or nearest
        to_the_letter = [file for file in nearest if os.path.basename(file) == base]
        if len(to_the_letter) == 1:
            nearest = to_the_letter
        return Match(tuple(sorted(nearest)), most)

    def _exactly(self, name: str) -> str | None:
        """Return the file at this path relative to one of the homes."""
        for home in self.homes:
            file = os.path.normpath(os.path.join(home, name))
            if file in self._files:
                return file
        return None

    def lost_zeros(self, names: Iterable[str], taken: Iterable[str]) -> tuple[str, str] | None:
        """Return a missing name and an unused file that differ only in leading zeros, or ``None``."""
        short = {stem: ZEROS.sub("", stem) for stem in self._by_stem if ZEROS.search(stem)}
        if not short:
            return None
        wanted = set(short.values())
        without: dict[str, str] = {}
        for name in names:
            stem = stem_key(spellings_of(name)[0].rpartition("/")[2])
            if stem in wanted:
                without.setdefault(stem, name)
        claimed = set(taken) if without else set()
        for stem, stem_without in short.items():
            files = self._by_stem[stem]
            file = files if isinstance(files, str) else files[0]
            if stem_without in without and file not in claimed:
                return without[stem_without], file
        return None


def _walk(home: str) -> Iterable[str]:
    """Yield all files in and below a folder, except hidden ones. Links to folders inside it are not followed."""
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
            continue  # Photos in an unreadable folder could not be read anyway.


def is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def stem_key(base: str) -> str:
    stem, dot, extension = base.rpartition(".")
    # As for `os.path.splitext`, a name of only dots before the last one has no extension.
    return key(stem if (dot + extension).lower() in PHOTO_EXTENSIONS and stem.strip(".") else base)


def _agreeing(file: str, folders: Sequence[str]) -> int:
    """Return how many folders, counted from the last one, a file's path has in common with a name."""
    n = 0
    path = os.path.dirname(file)
    for folder in folders:
        if key(os.path.basename(path)) != folder:
            break
        n += 1
        path = os.path.dirname(path)
    return n


def spellings_of(name: str) -> list[str]:
    """Return the possible interpretations of a name: a path, with each backslash replaced by a slash, and a URL."""
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
