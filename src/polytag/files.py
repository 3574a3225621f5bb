"""Writing files so that nobody ever finds half of one."""

import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from polytag.errors import SettingsError


@contextmanager
def write_bytes_atomically(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file that takes its name only when the block ends without an error."""
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written ({error.strerror}): name another place") from None
    try:
        with open(handle, "wb") as file:
            yield file
        # mkstemp makes files that only their owner can read; what polytag writes is for others too.
        os.chmod(temporary, 0o644)
        try:
            os.replace(temporary, path)
        except OSError as error:
            raise SettingsError(f"{path} cannot be written ({error.strerror}): name another place") from None
    except BaseException:
        os.unlink(temporary)
        raise


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[io.TextIOWrapper]:
    """A text file (UTF-8) that takes its name only when the block ends without an error."""
    with write_bytes_atomically(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        yield text
        text.flush()
        text.detach()  # or its end would close the file that is still to be renamed


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write JSON with two blanks of indentation; NaN is refused, since JSON has none."""
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
