"""Find the files of the photos that a table lists. All files must be inside the folder of the photos.

All names are looked up in one index of the files below the folder. A name may be a path from another machine, be a URL
or have a different extension, so the file whose path agrees with the end of the name in the most folders is chosen.
Names that match two files equally well are refused.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polytag.data.reading.photo_index import (
    MISSING,
    Match,
    PhotoIndex,
    folders_of,
    is_below,
    key,
    spellings_of,
    stem_key,
)
from polytag.data.reading.table import Table
from polytag.errors import DataError, counted, listed


@dataclass(frozen=True)
class Found:
    """Files of the photos in a table.

    Attributes:
        root: the folder that contains all photos.
        files: the file of each row. If a file is missing, this is its expected path.
        missing: the files that do not exist.
        notes: messages about what was decided.
    """

    root: Path
    files: list[str]
    missing: frozenset[str]
    notes: tuple[str, ...] = field(default=())


def find_photos(table: Table, images: Path | None = None) -> Found:
    """Find the photo of each row.

    Args:
        table: the table that names the photos.
        images: the folder to search. If ``None``, the table's ``homes`` are searched.

    Raises:
        DataError: the folder does not exist, no photo is found, a name is ambiguous or leads outside of the folder, or
            numeric names lost their leading zeros.
    """
    if images is not None and not images.is_dir():
        raise DataError(f"--images must name a folder, and {images} is not one")
    names = list(dict.fromkeys(table.images))
    index, matches = _search(names, [images] if images is not None else table.homes)
    home = index.homes[0]
    _refuse_ambiguous(table, matches, home)
    files = {name: match.files[0] for name, match in matches.items() if match.files}
    lost = [name for name in names if name not in files]
    for name in lost:
        hidden = _outside_index(index.homes, name)
        if hidden is not None:
            files[name] = hidden
    lost = [name for name in lost if name not in files]
    _refuse_outside(table, lost, home)
    zeros = index.lost_zeros(lost, files.values()) if lost else None
    if zeros is not None:
        raise DataError(
            f"{table.source} names '{zeros[0]}', but the file is {_short(zeros[1], home)}: the names lost their "
            "leading zeros, probably in a spreadsheet. Save the table again with the image column as text"
        )
    if not files:
        raise DataError(
            f"none of the {len(names):,} images of {table.source} is in or below {home} (first: {names[0]}): name "
            "their folder with --images"
        )
    root = _root(files, index.homes)
    missing = {name: os.path.normpath(os.path.join(root, _inside(name))) for name in lost}
    files.update(missing)
    notes = []
    prefixed = [name for name, match in matches.items() if match.without_prefix]
    if prefixed:
        notes.append(
            f"{counted(len(prefixed), 'image')} found only without the prefix of an annotation tool's upload: "
            f"{listed([f'{os.path.basename(name)} is {_short(files[name], root)}' for name in prefixed], 2)}"
        )
    return Found(Path(root), [files[name] for name in table.images], frozenset(missing.values()), tuple(notes))


def any_found(names: Sequence[str], homes: Sequence[Path]) -> bool:
    """Return whether any of the names, or of a sample of about 200, is a file in or below the homes."""
    return any(match.files for match in _search(names[:: max(1, len(names) // 200)], homes)[1].values())


def finds_again(names: Sequence[str], home: Path, files: Sequence[Path]) -> bool:
    """Return whether these names, listed in a table in this folder, resolve to exactly these files."""
    matches = _search(names, [home])[1]
    wanted = (os.path.realpath(file.parent) + os.sep + file.name for file in files)
    return all(matches[name].files == (file,) for name, file in zip(names, wanted, strict=True))


def _search(names: Sequence[str], homes: Sequence[Path]) -> tuple[PhotoIndex, dict[str, Match]]:
    """Look up the names in the nearest home that contains at least one of them. Return its index and the matches."""
    nearest: tuple[PhotoIndex, dict[str, Match]] | None = None
    for home in homes:
        index = PhotoIndex([home])
        matches = _consistent(names, {name: index.find(name) for name in names})
        if any(match.files for match in matches.values()):
            return index, matches
        nearest = nearest or (index, matches)
    return nearest or (PhotoIndex([]), dict.fromkeys(names, MISSING))


def _consistent(names: Sequence[str], matches: dict[str, Match]) -> dict[str, Match]:
    """Drop matches by base name alone if most paths match as a whole, or if several folders have that name.

    For example, if the table lists both ``a/1.jpg`` and ``b/1.jpg``, and only ``a/1.jpg`` exists, then ``b/1.jpg`` is
    missing. Correct matches within a table ignore the same number of leading folders, or fewer.
    """
    last = {name: spellings_of(name)[-1] for name in names}
    alone = [name for name in names if matches[name].files and not matches[name].agreeing and folders_of(last[name])]
    if alone:
        deep = {name: n for name in names if matches[name].files and (n := len(folders_of(last[name])))}
        if 2 * sum(n == matches[name].agreeing for name, n in deep.items()) > len(deep):
            # A photo with the same name in another folder is another photo.
            matches = matches | dict.fromkeys(alone, MISSING)
    base = {name: stem_key(last[name].rpartition("/")[2]) for name in names}
    repeated = {stem for stem, n in Counter(base.values()).items() if n > 1}
    if not repeated:
        return matches
    depth = {name: len(folders_of(last[name])) for name in names if base[name] in repeated}
    dropped = {name: n - matches[name].agreeing for name, n in depth.items() if matches[name].files}
    if not dropped:
        return matches
    usual = Counter(dropped.values()).most_common(1)[0][0]
    claims: dict[str, int] = {}
    for name in dropped:
        for file in matches[name].files:
            claims[file] = max(claims.get(file, 0), matches[name].agreeing)
    _refuse_one_file_for_two(dropped, matches)
    kept = dict(matches)
    for name, n in dropped.items():
        poorer = any(claims[file] > matches[name].agreeing for file in matches[name].files)
        if depth[name] and (n > usual or poorer):
            kept[name] = MISSING
    return kept


def _refuse_one_file_for_two(names: Iterable[str], matches: Mapping[str, Match]) -> None:
    """Refuse a table with two different paths that match the same file equally well."""
    first: dict[str, str] = {}
    for name in names:
        match = matches[name]
        if len(match.files) != 1:
            continue
        other = first.setdefault(match.files[0], name)
        if other == name or matches[other].agreeing != match.agreeing:
            continue
        a, b = ([key(part) for part in folders_of(spellings_of(one)[-1])] for one in (name, other))
        shorter = min(len(a), len(b))
        if a[len(a) - shorter :] != b[len(b) - shorter :]:
            raise DataError(
                f"'{other}' and '{name}' in the table match the same file, {match.files[0]}: name the folder of the "
                "photos with --images"
            )


def _refuse_outside(table: Table, lost: Sequence[str], home: str) -> None:
    """Refuse names of existing files outside of the folder, such as paths that contain ``..``."""
    for name in lost:
        path = spellings_of(name)[0]
        if (path.startswith("/") or ".." in path) and os.path.isfile(os.path.normpath(os.path.join(home, path))):
            line = table.lines[table.images.index(name)]
            raise DataError(
                f"{table.source}, {table.place} {line}: the image '{name}' is outside the folder {home}: list only "
                "files inside it, or name a parent folder with --images"
            )


def _refuse_ambiguous(table: Table, matches: Mapping[str, Match], home: str) -> None:
    several = {name: match for name, match in matches.items() if len(match.files) > 1}
    if not several:
        return
    name, match = next(iter(several.items()))
    line = table.lines[table.images.index(name)]
    extensions = {stem_key(os.path.basename(file)) for file in match.files}
    same_folder = len({os.path.dirname(file) for file in match.files}) == 1
    advice = (
        "add the extension in the table"
        if same_folder and len(extensions) == 1
        else "name the folder with --images or a column of paths with --image-column, or write paths in the table"
    )
    others = f" ({counted(len(several), 'image')} in all)" if len(several) > 1 else ""
    found = _either([_short(file, home) for file in match.files])
    raise DataError(f"{table.source}, {table.place} {line}: '{name}' could be {found}{others}: {advice}")


def _either(files: list[str]) -> str:
    return " or ".join(files) if len(files) == 2 else listed(files, 4)


def _root(files: Mapping[str, str], homes: Sequence[str]) -> str:
    """Return the common root of all files, in or below the homes. The names should be paths relative to this root."""
    folders = set()
    for name, file in files.items():
        folder = os.path.dirname(file)
        for part in reversed(folders_of(spellings_of(name)[-1])):
            if key(os.path.basename(folder)) != key(part) or folder in homes:
                break
            folder = os.path.dirname(folder)
        folders.add(folder)
    return os.path.commonpath(folders)


def _outside_index(homes: Sequence[str], name: str) -> str | None:
    """Return a file that the index leaves out, such as one in a hidden folder, if the name is its exact path."""
    if not any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in name.split("/")):
        return None
    for home in homes:
        file = os.path.normpath(os.path.join(home, name))
        if is_below(file, home) and os.path.isfile(file):
            return file
    return None


def _inside(name: str) -> str:
    """Return the name as a path that cannot lead out of a folder."""
    return "/".join(part for part in spellings_of(name)[-1].split("/") if part not in ("", ".", "..")) or "unnamed"


def _short(file: str, home: str) -> str:
    return os.path.relpath(file, home) if is_below(file, home) else file
