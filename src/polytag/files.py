"""Write files atomically, so that no other program ever sees an incomplete file; lock, check and quote them."""

import hashlib
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from polytag.errors import SettingsError, raise_machine_error

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def write_bytes_atomically(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only if the block ends without an error.

    A new file gets default permissions according to the umask. If an existing file is replaced, its permissions are
    preserved.

    Raises:
        SettingsError: the file cannot be written.
    """
    path = Path(path)
    temporary = beside(path)
    try:
        handle, mode = _created(temporary, path)
    except OSError as error:
        raise SettingsError(_refused(path, error)) from None
    try:
        with open(handle, "wb") as file:
            if fcntl:
                with suppress(OSError):  # Without locks, leftovers are never removed.
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
        try:
            if mode is not None:
                os.chmod(temporary, mode)
            os.replace(temporary, path)
        except OSError as error:
            raise SettingsError(_refused(path, error)) from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def beside(path: Path) -> Path:
    """Return an unused, hidden path in the same folder for a file or folder that will be renamed to ``path``."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}")


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Lock a file or folder of `beside` while the block runs, so that no process deletes it as a leftover.

    Raises:
        OSError: another process has locked it, or the system has no locks.
    """
    if not fcntl:
        raise OSError("no locks")
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def remove_leftovers(path: Path) -> None:
    """Delete files and folders of `beside` that killed processes have left, if the system has locks."""
    leftover = re.compile(re.escape(f".{path.name[:40]}.") + "[0-9a-f]{16}")
    for one in path.parent.iterdir():
        if leftover.fullmatch(one.name):
            with suppress(OSError), held(one):
                shutil.rmtree(one) if one.is_dir() else one.unlink()


def _created(temporary: Path, path: Path) -> tuple[int, int | None]:
    """Create the temporary file. Return its file descriptor, and the permissions of the file that it will replace."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        mode = os.stat(path).st_mode & 0o7777
    except FileNotFoundError:
        return os.open(temporary, flags, 0o666), None
    # The temporary file is private until it is complete, because the file that it replaces may be private.
    return os.open(temporary, flags, 0o600), mode


def _refused(path: Path, error: OSError) -> str:
    return f"{path} cannot be written ({error.strerror}): choose another path"


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[io.TextIOWrapper]:
    """Open a text file (UTF-8) that appears under its name only if the block ends without an error.

    Raises:
        SettingsError: the file cannot be written.
    """
    with write_bytes_atomically(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        yield text
        text.flush()
        text.detach()  # Closing the text wrapper would also close the underlying file too early.


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write JSON, indented by two spaces. NaN is refused because JSON does not support it."""
    with write_atomically(path) as file:
        json.dump(content, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def is_readable(path: str | os.PathLike[str]) -> bool:
    """Return whether a file exists and may be read.

    Raises:
        MachineError: the disk or network drive fails, which is not the file's fault. `os.access` does not tell.
    """
    try:
        os.stat(path)
    except OSError as error:
        raise_machine_error(error)
        return False
    return os.access(path, os.R_OK)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 checksum of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


LOCK_FILE = ".lock"
"""Name of the file by which a process locks a folder that it writes over a long time."""


TRAINING_FILE = "training.json"
"""Name of the file that marks a folder with the progress of a training."""


def unfinished(path: Path) -> Path:
    """Return the path of the progress from which an interrupted command continues to write ``path``."""
    return path.with_name(f"{path.name}.part")


def lock(path: Path) -> BinaryIO:
    """Lock a file for this process, creating it if needed. The lock ends when the file is closed or the process ends.

    File systems without locks, and Windows, are not protected.

    Raises:
        SettingsError: another process has locked the file.
        OSError: the file cannot be opened.
    """
    file = path.open("ab")
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        place = path.parent if path.name == LOCK_FILE else path
        raise SettingsError(
            f"{place} is in use by another process: wait until it has finished, or name another output"
        ) from None
    except OSError:
        pass  # The file system has no locks.
    return file


def refuse_same_file(output: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse to overwrite an input.

    Files are compared by identity, not by name. Symbolic links, hard links, and names that differ only in case (on
    case-insensitive file systems) are therefore recognised.

    Args:
        output: file to write; it does not have to exist.
        inputs: files that are read. Paths that do not exist are ignored.

    Raises:
        SettingsError: the output is one of the inputs.
    """
    output = Path(output).expanduser()
    for source in inputs:
        try:
            same = os.path.samefile(output, Path(source).expanduser())
        except (OSError, ValueError):
            continue  # At least one of the two files does not exist, so they are not the same file.
        if same:
            raise SettingsError(
                f"{output} is the same file as the input {source}, and input files are never changed: "
                "choose another output"
            )


FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
"""Beginning of a CSV cell that a spreadsheet would run as a formula, or that `csv_cell` has already quoted."""


def csv_cell(text: str) -> str:
    """Put an apostrophe in front of a text that a spreadsheet would run as a formula.

    Use this function for all cells that contain names, labels or messages, including header cells, but not for numbers.
    `csv_text` is the inverse function. It restores the exact text, even if the text itself begins with apostrophes.
    """
    return f"'{text}" if FORMULA.match(text) else text


def csv_text(cell: str) -> str:
    """Return the original text of a cell that `csv_cell` has quoted. Other cells are returned unchanged."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
