"""polytag's exceptions, and functions that format values in messages.

::

    PolytagError            base class; the command line prints the message and exits with code 2
    ├── DataError           the table of labels or the folder of photos cannot be used
    │   ├── ConflictError   a photo is listed more than once with contradictory labels
    │   └── ImageError      a photo cannot be decoded
    ├── SettingsError       a setting or an output folder cannot be used
    │   └── DivergedError   the loss became infinite during training
    ├── MachineError        the computer failed, for example because its memory or disk is full
    ├── WeightsError        pretrained weights are missing or altered
    └── BundleError         a bundle is damaged, incomplete or too new

Every message is a single line that says what is wrong, and then what to do.
"""

import errno


class PolytagError(Exception):
    """Base class of the exceptions that polytag raises deliberately."""


class DataError(PolytagError):
    """The table of labels or the folder of photos cannot be used."""


class ConflictError(DataError):
    """A photo is listed more than once, and the rows contradict each other."""


class ImageError(DataError):
    """A photo cannot be decoded. The message contains the reason, but not the file name.

    Attributes:
        problem: kind of problem: "missing", "empty", "not an image", "truncated", "damaged" or "too large".
    """

    def __init__(self, reason: str, problem: str = "damaged"):
        super().__init__(reason)
        self.problem = problem


class SettingsError(PolytagError):
    """A setting is out of range, or an output folder cannot be written or reused."""


class DivergedError(SettingsError):
    """The loss became infinite during training because the learning rate is too high."""


class MachineError(PolytagError):
    """The computer failed, for example because memory, file handles or disk space ran out.

    This error stops the command. It must never be reported as a problem with a photo.
    """


class WeightsError(PolytagError):
    """Pretrained weights are missing, incomplete or altered."""


class BundleError(PolytagError):
    """A bundle is damaged, incomplete, or was written by an incompatible version of polytag."""


ADVICE = {
    "EMFILE": "raise the limit on open files (ulimit -n)",
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
"""Operating system error codes that are never caused by an individual file, with advice for each."""

MACHINE_ERRORS = {code: advice for name, advice in ADVICE.items() if (code := getattr(errno, name, None)) is not None}


def raise_machine_error(error: BaseException) -> None:
    """Raise a `MachineError` if an exception was caused by the computer; otherwise, do nothing.

    Call this function first in every ``except`` clause that reports an arbitrary exception as a problem with the data.

    Raises:
        MachineError: ``error`` is a `MemoryError`, or an `OSError` with an error code in `MACHINE_ERRORS`.
    """
    if isinstance(error, MachineError):
        raise error
    if isinstance(error, MemoryError):
        raise MachineError(f"out of memory: {ADVICE['ENOMEM']}") from error
    if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
        place = f" ({error.filename})" if error.filename else ""
        raise MachineError(f"{error.strerror}{place}: {MACHINE_ERRORS[error.errno]}") from error


JOINERS = "\u200c\u200d"
"""Invisible characters that some words and emoji need, and that are safe to print."""


def printable(text: str) -> str:
    r"""Escape characters that could change how a terminal, log or page displays a line.

    Control characters, line separators, direction overrides and undecodable bytes become escapes such as ``\n``,
    ``\x1b`` and ``\u202e``. All other characters, including letters of all scripts, are unchanged.
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
    """Return the first items, made `printable`, as one line such as "a, b, c and 12 more"."""
    shown = ", ".join(map(printable, items[:at_most]))
    return shown if len(items) <= at_most else f"{shown} and {len(items) - at_most:,} more"
