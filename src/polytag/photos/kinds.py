"""Identify files: photos that polytag reads, and the kinds of other files, so that skipped files can be counted.

A known file extension is enough, because opening a million files takes minutes. Files with an unknown extension, or
without one, are identified by their first bytes.
"""

import codecs
import io
import os
import re
import stat
import struct
from collections import Counter
from collections.abc import Mapping
from typing import IO

from polytag.errors import counted, raise_machine_error

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    | {".heic", ".heif", ".hif", ".avif"}
)
"""File extensions of photos, in lower case."""

PHOTO = "photo"
RAW = "camera raw file"
JPEG_XL = "JPEG XL photo"
VIDEO, SOUND, TEXT, SIDECAR = "video", "sound file", "text file", "sidecar"
ARCHIVE, DOCUMENT, GRAPHICS, DATA = "archive", "document", "graphics file", "data file"
EMPTY, UNREADABLE, OTHER = "empty file", "unreadable file", "other file"

ENDINGS = {
    RAW: "3fr arw cr2 cr3 crw dcr dng erf fff gpr iiq kdc mef mos mrw nef nrw orf pef ptx raf raw rw2 rwl sr2 srf srw "
    "x3f",
    JPEG_XL: "jxl",
    VIDEO: "3g2 3gp asf avi flv insv lrv m2ts m4v mkv mov mp4 mpeg mpg mts ogv vob webm wmv",
    SOUND: "aac aif aiff amr flac m4a mid mp3 oga ogg opus wav wma",
    TEXT: "cfg css csv geojson htm html ini ipynb js json jsonl log lst md ndjson py rst srt tex toml tsv txt xml "
    "yaml yml",
    SIDECAR: "aae dop pp3 thm xmp",
    ARCHIVE: "7z bz2 gz rar tar tgz xz zip zst",
    DOCUMENT: "doc docx key numbers odp ods odt pages pdf ppt pptx rtf xls xlsm xlsx",
    GRAPHICS: "ai cdr eps exr hdr ico indd kra ps psb psd svg svgz xcf",
    DATA: "arrow db feather h5 hdf5 keras mat npy npz onnx parquet pickle pkl pt pth safetensors sqlite tfrecord",
    OTHER: "app bak crdownload dll download exe lnk part so tmp",
}
"""File extensions that are never opened as photos. A THM file is the thumbnail of a video."""

KIND_OF_ENDING = {
    f".{ending}": kind for kind, endings in ENDINGS.items() for ending in endings.split()
} | dict.fromkeys(EXTENSIONS, PHOTO)

SIGNATURES = (
    (0, b"\xff\xd8\xff", PHOTO),  # JPEG
    (0, b"\x89PNG\r\n\x1a\n", PHOTO),
    (8, b"WEBP", PHOTO),
    (0, b"GIF8", PHOTO),
    (0, b"\xff\x0a", JPEG_XL),
    (4, b"JXL \r\n\x87\n", JPEG_XL),
    (4, b"ftypcrx ", RAW),  # CR3
    (0, b"FUJIFILMCCD-RAW", RAW),  # RAF
    (0, b"IIRO", RAW),  # ORF
    (0, b"IIRS", RAW),
    (0, b"MMOR", RAW),
    (0, b"IIU\0", RAW),  # RW2
    (6, b"HEAPCCDR", RAW),  # CRW
    (0, b"FOVb", RAW),  # X3F
    (0, b"\0MRM", RAW),
    (4, b"ftypM4A", SOUND),
    (4, b"ftyp", VIDEO),  # any brand other than HEIF and AVIF
    (4, b"moov", VIDEO),
    (4, b"mdat", VIDEO),
    (4, b"wide", VIDEO),
    (0, b"\x1aE\xdf\xa3", VIDEO),  # Matroska, WebM
    (8, b"AVI ", VIDEO),
    (0, b"\0\0\x01\xba", VIDEO),
    (0, b"\0\0\x01\xb3", VIDEO),
    (8, b"WAVE", SOUND),
    (0, b"ID3", SOUND),
    (0, b"fLaC", SOUND),
    (0, b"OggS", SOUND),
    (0, b"PK\x03\x04", ARCHIVE),
    (0, b"\x1f\x8b", ARCHIVE),
    (0, b"7z\xbc\xaf", ARCHIVE),
    (0, b"Rar!", ARCHIVE),
    (0, b"%PDF", DOCUMENT),
    (0, b"8BPS", GRAPHICS),
    (0, b"%!PS", GRAPHICS),
    (0, b"SQLite format 3", DATA),
)
"""Signatures (position, bytes, kind) that identify a file. The first match counts."""

HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1", b"miaf"}
    | {b"avif", b"avis"}
)
"""Brands of HEIF and AVIF files: bytes 8 to 11, after "ftyp" (ISO/IEC 23008-12)."""

TIFF = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
"""First bytes of TIFF and BigTIFF files, with the byte order that each implies."""

HEAD = 512
"""Number of bytes that are read to identify a file."""

BINARY = re.compile("[\\x00-\\x08\\x0e-\\x1a\\x1c-\\x1f]")
"""Control characters that do not occur in text files."""


def kind_of(path: str | os.PathLike[str]) -> str:
    """Return the kind of a file: `PHOTO`, or a description such as "video".

    A file with a photo's extension counts as a photo. `decode` later determines whether it really is one.

    Raises:
        MachineError: the file's extension is unknown and the computer cannot open the file.
    """
    ending = os.path.splitext(path)[1].lower()
    return KIND_OF_ENDING.get(ending) or kind_of_content(path)


def is_photo(path: str | os.PathLike[str], skipped: Counter[str] | None = None) -> bool:
    """Return whether a file is a photo. If it is not, count its kind in ``skipped``.

    Raises:
        MachineError: the file's extension is unknown and the computer cannot open the file.
    """
    kind = kind_of(path)
    if kind != PHOTO and skipped is not None:
        skipped[kind] += 1
    return kind == PHOTO


def left_out(skipped: Mapping[str, int]) -> str:
    """Summarize skipped files: "8 files left out: 5 videos, 3 text files". Return "" if there are none."""
    kinds = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    if not kinds:
        return ""
    return f"{counted(sum(skipped.values()), 'file')} left out: {', '.join(counted(n, kind) for kind, n in kinds)}"


def kind_of_content(source: bytes | str | os.PathLike[str]) -> str:
    """Return the kind of a file based only on its first bytes.

    Args:
        source: the bytes or the path of the file.

    Raises:
        MachineError: the computer cannot open the file.
    """
    try:
        # Opening a named pipe would block until another process opens its other end.
        if not isinstance(source, bytes) and not stat.S_ISREG(os.stat(source).st_mode):
            return OTHER
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
            head = file.read(HEAD)
            return RAW if head[:4] in TIFF and is_raw(file) else _kind_of_head(head)
    except OSError as error:
        raise_machine_error(error)
        return UNREADABLE


def _kind_of_head(head: bytes) -> str:
    if not head:
        return EMPTY
    if head[:4] in TIFF or (head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS):
        return PHOTO
    if head[:2] == b"BM" and head[6:10] == bytes(4) and len(head) > 26:
        return PHOTO
    for start, signature, kind in SIGNATURES:
        if head.startswith(signature, start):
            return kind
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return TEXT
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < HEAD)
    except UnicodeDecodeError:
        return OTHER
    return OTHER if BINARY.search(text) else TEXT


DNG_VERSION, PHOTOMETRIC, SUB_IFDS = 50706, 262, 330
"""TIFF tags."""

SENSOR_DATA = {32803, 34892}
"""Photometric interpretations of camera sensor data: a colour filter array, and linear raw."""

MOST_IFDS, MOST_ENTRIES = 32, 4096
"""Maximum numbers of directories per file and of entries per directory that are read. Cameras write fewer than 10
directories with fewer than 100 entries each."""


def is_raw(file: IO[bytes]) -> bool:
    """Return whether a TIFF file holds raw camera data (DNG, CR2, NEF, ARW, PEF, …).

    The first image in such a file is a thumbnail or preview, which must not be mistaken for the photo.

    Args:
        file: an open file. The file position is not restored.
    """
    file.seek(0)
    head = file.read(16)
    if head[:4] not in TIFF or len(head) < 16:
        return False
    if head[8:10] == b"CR" or head[8:12] in (b"IIII", b"MMMM"):
        return True  # Canon's CR2, Phase One's IIQ
    order, big = TIFF[head[:4]], head[2:4] in (b"+\0", b"\0+")
    waiting = [struct.unpack(order + "Q", head[8:16])[0] if big else struct.unpack(order + "I", head[4:8])[0]]
    seen: set[int] = set()
    while waiting and len(seen) < MOST_IFDS:
        offset = waiting.pop()
        if offset in seen or not offset:
            continue
        seen.add(offset)
        tags, following = _directory(file, offset, order, big)
        if DNG_VERSION in tags or SENSOR_DATA & set(tags.get(PHOTOMETRIC, ())):
            return True
        waiting += [*tags.get(SUB_IFDS, ())[:MOST_IFDS], following]
    return False


def _directory(file: IO[bytes], offset: int, order: str, big: bool) -> tuple[dict[int, tuple[int, ...]], int]:
    """Return the integer tags that identify raw files, and the offset of the next directory (0 if there is none)."""
    entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    count, pointer = (struct.Struct(order + code) for code in ("QQ" if big else "HI"))
    tags: dict[int, tuple[int, ...]] = {}
    try:
        file.seek(offset)
        (n,) = count.unpack(file.read(count.size))
        if n > MOST_ENTRIES:
            return {}, 0
        entries = file.read(n * entry.size)
        (following,) = pointer.unpack(file.read(pointer.size))
        for tag, form, length, value in entry.iter_unpack(entries):
            if tag == DNG_VERSION:
                tags[tag] = ()
            code = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}.get(form)
            if tag in (PHOTOMETRIC, SUB_IFDS) and code and length <= MOST_IFDS:
                numbers = struct.Struct(f"{order}{length}{code}")
                if numbers.size > len(value):
                    file.seek(pointer.unpack(value)[0])
                    value = file.read(numbers.size)
                tags[tag] = numbers.unpack_from(value)
    except (struct.error, ValueError, OverflowError):
        return tags, 0  # The file is truncated or damaged, so only the tags read so far are used.
    return tags, following
