"""What can go wrong, as one tree.

::

    PolytagError            anything polytag refuses to do; the command line prints it and exits with 2
    ├── DataError           the table of labels or the folder of photos
    │   ├── ConflictError   one photo, listed twice, with labels that contradict each other
    │   └── ImageError      one photo that cannot be turned into pixels
    ├── SettingsError       a setting or an output folder that cannot be used
    │   └── DivergedError   a learning rate with which training lost itself in the infinite
    ├── WeightsError        pretrained weights that are missing or are not what they claim
    └── BundleError         a bundle that is damaged, incomplete or too new

Every message is one line that says what was expected, what came and what to do.
"""


class PolytagError(Exception):
    """Base of every error that polytag raises on purpose."""


class DataError(PolytagError):
    """The table of labels or the folder of photos cannot be used as it is."""


class ConflictError(DataError):
    """The same photo is listed more than once and its rows contradict each other."""


class ImageError(DataError):
    """One photo cannot be decoded; the message is the reason alone, without the file's name.

    Attributes:
        problem: the kind of reason: "missing", "empty", "not an image", "truncated", "damaged" or "too large".
    """

    def __init__(self, reason: str, problem: str = "damaged"):
        super().__init__(reason)
        self.problem = problem


class SettingsError(PolytagError):
    """A setting is out of its range, or an output folder cannot be written or reused."""


class DivergedError(SettingsError):
    """The loss of a training became infinite: its learning rate is too high."""


class WeightsError(PolytagError):
    """Pretrained weights are missing, incomplete or altered."""


class BundleError(PolytagError):
    """A bundle is damaged, incomplete, or written by an incompatible polytag."""


def counted(n: int, noun: str) -> str:
    """``counted(1, "image")`` is "1 image", ``counted(2000, "entry")`` is "2,000 entries"."""
    if n == 1:
        return f"{n:,} {noun}"
    return f"{n:,} {noun[:-1]}ies" if noun.endswith("y") else f"{n:,} {noun}s"


def listed(items: list[str], at_most: int = 5) -> str:
    """Name the first items in one line: "a, b, c and 12 more"."""
    if len(items) <= at_most:
        return ", ".join(items)
    return f"{', '.join(items[:at_most])} and {len(items) - at_most:,} more"
