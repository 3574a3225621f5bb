"""Write files so that nobody ever sees half of one."""

import io
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from polytag.errors import SettingsError


@contextmanager
def write_bytes_atomically(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only if the block ends without an error.

    A new file gets the permissions that the umask allows. A file that is replaced keeps its own.

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
            yield file
        try:
            if mode is not None:
                os.chmod(temporary, mode)
            os.replace(temporary, path)
        except OSError as error:
            raise SettingsError(_refused(path, error)) from None
    except BaseException:
        os.unlink(temporary)
        raise


def beside(path: Path) -> Path:
    """Return an unused, hidden name in the same folder, for what will be renamed to ``path``."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}")


def _created(temporary: Path, path: Path) -> tuple[int, int | None]:
    """Create the temporary file; return its handle, and the permissions of the file that it will replace."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        mode = os.stat(path).st_mode & 0o7777
    except FileNotFoundError:
        return os.open(temporary, flags, 0o666), None
    # Private until it is complete: the file it replaces may be private too.
    return os.open(temporary, flags, 0o600), mode


def _refused(path: Path, error: OSError) -> str:
    return f"{path} cannot be written ({error.strerror}): choose another place"


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
        text.detach()  # Closing the text would close the file, which is still to be renamed.


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write JSON, indented by two spaces; NaN is refused, since JSON has none."""
    with write_atomically(path) as file:
        json.dump(content, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def refuse_same_file(output: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse to write over an input.

    Files are compared by identity, not by name, so links, hard links and names that differ only in case (on file
    systems that ignore it) are recognised.

    Args:
        output: the file to write. It need not exist.
        inputs: the files that are read. Folders and names that do not exist are ignored.

    Raises:
        SettingsError: the output is one of the inputs.
    """
    output = Path(output).expanduser()
    for source in inputs:
        try:
            same = os.path.samefile(output, Path(source).expanduser())
        except (OSError, ValueError):
            continue  # One of them does not exist, so they are not the same file.
        if same:
            raise SettingsError(
                f"{output} is the same file as the input {source}. Input files are never changed: name another output"
            )


FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
"""Start of a CSV cell that a spreadsheet would run as a formula, or that `csv_cell` has already quoted."""


def csv_cell(text: str) -> str:
    """Quote a cell of text that a spreadsheet would take for a formula, with an apostrophe in front.

    Use it for every cell of names, labels and messages, header cells included, but not for numbers. `csv_text` is
    its inverse: reading returns exactly what was written, even if the text itself begins with apostrophes.
    """
    return f"'{text}" if FORMULA.match(text) else text


def csv_text(cell: str) -> str:
    """Return the text of a cell that `csv_cell` has quoted; other cells are returned unchanged."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
