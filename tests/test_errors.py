"""Messages are one printable line, and the computer's failures are told apart from defects of the data."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytag.errors import MachineError, counted, listed, printable, raise_machine_error


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("IMG_0001 (copy).jpg", "IMG_0001 (copy).jpg"),
        ("Übergröße 写真 صورة नमस्ते.jpg", "Übergröße 写真 صورة नमस्ते.jpg"),
        ("👩\u200d🚀.jpg", "👩\u200d🚀.jpg"),
        ("a\nb\r\t.jpg", r"a\nb\r\t.jpg"),
        ("\x1b[2Jgone\x07\x7f\x9b", r"\x1b[2Jgone\x07\x7f\x9b"),
        ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
        ("\u2066a\u2069\u200f\u061c", r"\u2066a\u2069\u200f\u061c"),
        ("a\u2028b\u2029", r"a\u2028b\u2029"),
        ("caf\udce9.jpg", r"caf\udce9.jpg"),
    ],
)
def test_names_are_printed_without_anything_that_acts_on_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert listed([text]) == shown


@given(st.text())
def test_printable_text_is_one_line_that_can_be_encoded(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert "\x1b" not in shown
    assert printable(shown) == shown


def test_lists_and_counts() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(["a"] * 1007) == "a, a, a, a, a and 1,002 more"
    assert [counted(n, "entry") for n in (1, 2000)] == ["1 entry", "2,000 entries"]


@pytest.mark.parametrize(
    "error",
    [MemoryError(), *(OSError(code, "why", "a.jpg") for code in (errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOSPC))],
    ids=repr,
)
def test_failures_of_the_computer_are_raised(error: Exception) -> None:
    with pytest.raises(MachineError, match=": ") as caught:
        raise_machine_error(error)
    assert "\n" not in str(caught.value)
    with pytest.raises(MachineError):
        raise_machine_error(caught.value)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError(1), OSError("no code"), FileNotFoundError(2, "none")])
def test_other_errors_are_left_to_the_caller(error: Exception) -> None:
    raise_machine_error(error)
