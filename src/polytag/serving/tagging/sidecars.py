"""Write labels as keywords into XMP sidecar files, which photo managers read. The photos are never changed.

The sidecar of ``photo.jpg`` is called ``photo.jpg.xmp`` (digiKam, darktable, Immich, PhotoPrism) or ``photo.xmp``
(Lightroom, ExifTool). An existing sidecar is updated. A new sidecar is called ``photo.jpg.xmp`` and starts with the
keywords inside the photo.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from polytag.errors import DataError, SettingsError, raise_machine_error
from polytag.files import write_bytes_atomically
from polytag.photos import kinds
from polytag.photos.xmp import embedded_keywords
from polytag.serving.tagging.xmp_edit import EMPTY, edit_keywords


@dataclass(frozen=True)
class SidecarChange:
    """A planned change to the sidecar of a photo.

    Attributes:
        path: path of the sidecar.
        added, removed: labels that are added to the keywords, and labels that are removed from them.
        ignored: path of a second sidecar of the photo, which is left unchanged; ``None`` if there is only one.
        content: new content of the file; ``None`` if it does not change.
    """

    path: Path
    added: tuple[str, ...]
    removed: tuple[str, ...]
    ignored: Path | None
    content: bytes | None

    def __str__(self) -> str:
        changes = [f"+{label}" for label in self.added] + [f"-{label}" for label in self.removed]
        return f"{self.path}: {', '.join(changes) or 'no change'}"


def plan_sidecar(photo: str, assigned: Sequence[str], managed: Sequence[str]) -> SidecarChange:
    """Plan the change to a photo's sidecar without writing anything.

    Args:
        photo: path of the photo.
        assigned: labels assigned to the photo.
        managed: all labels of the bundle. Other keywords and all other content of the sidecar are preserved.

    Raises:
        DataError: the sidecar is damaged or cannot be read.
    """
    path, ignored = Path(f"{photo}.xmp"), None
    try:
        path, ignored = _sidecars(photo)
        exists = path.is_file()
        if not exists and not assigned:
            return SidecarChange(path, (), (), ignored, None)
        before = path.read_bytes() if exists else _with_keywords_of(photo)
        after, added, removed = edit_keywords(before, assigned, managed)
    except OSError as error:
        raise_machine_error(error)
        raise DataError(f"the sidecar {path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        reason = "too many nested elements" if isinstance(error, RecursionError) else error
        raise DataError(f"the sidecar {path} is damaged ({reason}): repair or delete it") from None
    unchanged = exists and after == before
    return SidecarChange(path, tuple(added), tuple(removed), ignored, None if unchanged else after)


def _with_keywords_of(photo: str) -> bytes:
    """Return a new packet with the keywords inside the photo. Programs that find a sidecar ignore these keywords."""
    inside = embedded_keywords(photo) or []
    return edit_keywords(EMPTY, inside, inside)[0] if inside else EMPTY


def write_sidecar(change: SidecarChange) -> None:
    """Write a planned change to the sidecar.

    Raises:
        DataError: the sidecar cannot be written.
    """
    if change.content is None:
        return
    try:
        # If the sidecar is a symbolic link, its target is replaced and the link is preserved.
        with write_bytes_atomically(change.path.resolve()) as file:
            file.write(change.content)
    except (SettingsError, OSError) as error:
        raise_machine_error(error.__cause__ or error.__context__ or error)
        raise DataError(str(error)) from None


def _sidecars(photo: str) -> tuple[Path, Path | None]:
    """Return the sidecar to write, and a second sidecar that is ignored."""
    own = [Path(f"{photo}{ending}") for ending in (".xmp", ".XMP")]
    by_stem = [] if _shares_stem(photo) else [Path(photo).with_suffix(ending) for ending in (".xmp", ".XMP")]
    existing: list[Path] = []
    for path in (*own, *by_stem):
        # On a case-insensitive file system, the same file is found under both names.
        if path.is_file() and not any(path.samefile(other) for other in existing):
            existing.append(path)
    return (*existing, own[0])[0], existing[1] if len(existing) > 1 else None


def _shares_stem(photo: str) -> bool:
    """Return whether another photo or raw file has the same stem, so that ``photo.xmp`` may belong to that file."""
    path = Path(photo)
    if not any(path.with_suffix(ending).is_file() for ending in (".xmp", ".XMP")):
        return False
    return _photos_by_stem(path.parent).get(path.stem, 0) > 1


@lru_cache(maxsize=8)
def _photos_by_stem(folder: Path) -> dict[str, int]:
    """Count the photos and raw files in a folder by stem."""
    found: dict[str, int] = {}
    for name in os.listdir(folder):
        stem, ending = os.path.splitext(name)
        if kinds.KIND_OF_ENDING.get(ending.lower()) in (kinds.PHOTO, kinds.RAW, kinds.JPEG_XL):
            found[stem] = found.get(stem, 0) + 1
    return found
