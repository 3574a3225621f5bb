"""The exceptions of polytag, and how messages count and list things.

::

    PolytagError            anything polytag refuses to do; the command line prints it and exits with 2
    ├── DataError           the table of labels or the folder of photos
    │   ├── ConflictError   a photo that is listed twice with contradicting labels
    │   └── ImageError      a photo that cannot be decoded
    ├── SettingsError       a setting or an output folder that cannot be used
    │   └── DivergedError   a training whose loss became infinite
    ├── MachineError        the computer: no memory, too many open files, a full or failing disk
    ├── WeightsError        pretrained weights that are missing or altered
    └── BundleError         a bundle that is damaged, incomplete or too new

Every message is one line: what is wrong, then what to do.
"""

import errno


class PolytagError(Exception):
    """Base class of the exceptions that polytag raises on purpose."""


class DataError(PolytagError):
    """The table of labels or the folder of photos cannot be used."""


class ConflictError(DataError):
    """A photo is listed more than once and its rows contradict each other."""


class ImageError(DataError):
    """A photo cannot be decoded; the message gives the reason without the file name.

    Attributes:
        problem: the kind of reason: "missing", "empty", "not an image", "truncated", "damaged" or "too large".
    """

    def __init__(self, reason: str, problem: str = "damaged"):
        super().__init__(reason)
        self.problem = problem


class SettingsError(PolytagError):
    """A setting is out of range, or an output folder cannot be written or reused."""


class DivergedError(SettingsError):
    """The loss of a training became infinite: the learning rate is too high."""


class MachineError(PolytagError):
    """The computer failed, not the data: no memory, too many open files, a full or failing disk.

    It stops the command. It must never be reported as a defect of a photo.
    """


class WeightsError(PolytagError):
    """Pretrained weights are missing, incomplete or altered."""


class BundleError(PolytagError):
    """A bundle is damaged, incomplete, or was written by an incompatible version of polytag."""


ADVICE = {
    "EMFILE": "raise the limit of open files (ulimit -n)",
    "ENFILE": "close other programs",
    "ENOMEM": "close other programs or use a machine with more memory",
    "ENOSPC": "free some disk space",
    "EDQUOT": "free some disk space",
    "EROFS": "the disk is mounted read-only",
    "EIO": "check the disk or the network drive",
    "ENXIO": "check the disk or the network drive",
    "ENODEV": "check the disk or the network drive",
    "ESTALE": "check the network drive",
    "ETIMEDOUT": "check the network drive",
    "EHOSTDOWN": "check the network drive",
    "ENOTCONN": "check the network drive",
    "EREMOTEIO": "check the network drive",
}
"""Error codes of the operating system that never say anything about a single file, and what to do about each."""

MACHINE_ERRORS = {code: advice for name, advice in ADVICE.items() if (code := getattr(errno, name, None)) is not None}


def raise_machine_error(error: BaseException) -> None:
    """Raise a `MachineError` if an exception was caused by the computer, and return otherwise.

    Call it first in every ``except`` clause that would turn an arbitrary exception into a statement about data.

    Raises:
        MachineError: ``error`` is a `MemoryError` or an `OSError` with one of the `MACHINE_ERRORS`.
    """
    if isinstance(error, MachineError):
        raise error
    if isinstance(error, MemoryError):
        raise MachineError(f"out of memory: {ADVICE['ENOMEM']}") from error
    if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
        place = f" ({error.filename})" if error.filename else ""
        raise MachineError(f"{error.strerror}{place}: {MACHINE_ERRORS[error.errno]}") from error


JOINERS = "\u200c\u200d"
"""Invisible characters that belong to the spelling of words and emoji, and that are safe to print."""


def printable(text: str) -> str:
    r"""Escape what could change how a terminal, log or page shows a line.

    Control characters, line separators, direction overrides and undecodable bytes become escapes such as ``\n``,
    ``\x1b`` and ``\u202e``. Letters of all scripts stay. Printable text is returned unchanged.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in JOINERS or one == "\u3000" else one.encode("unicode_escape").decode()
        for one in text
    )


def counted(n: int, noun: str) -> str:
    """Return a count with its noun, such as "1 image" or "2,000 entries"."""
    if n == 1:
        return f"{n:,} {noun}"
    return f"{n:,} {noun[:-1]}ies" if noun.endswith("y") else f"{n:,} {noun}s"


def listed(items: list[str], at_most: int = 5) -> str:
    """List the first items in one line, made `printable`: "a, b, c and 12 more"."""
    shown = ", ".join(map(printable, items[:at_most]))
    return shown if len(items) <= at_most else f"{shown} and {len(items) - at_most:,} more"
