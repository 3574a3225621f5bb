"""Dataclasses as options of a command, and the help that people see."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

import polytag as pt
from polytag.cli import app
from polytag.cli.options import expand_options, split_list


@dataclass(frozen=True, kw_only=True)
class ShelfOptions:
    """Options of no particular use."""

    folder: Annotated[Path | None, "Where it stands. See 'extra[one]'."] = None
    book_names: Annotated[Sequence[str], "Names of books.", "-b"] = ()
    order: Annotated[Literal["size", "colour"] | None, "Order."] = None
    width: Annotated[float, "Width, in metres."] = 1.5
    wait: Annotated[float | str | None, "A duration."] = None
    dusty: Annotated[bool, "Whether there is dust."] = False
    hidden: int = 7


@pytest.fixture
def shelf() -> tuple[typer.Typer, list[Any]]:
    """An application whose only command keeps what it receives."""
    received: list[Any] = []
    shelves = typer.Typer(rich_markup_mode="rich")

    def show(
        name: Annotated[str, typer.Argument()],
        options: ShelfOptions,
        colours: Annotated[list[str], typer.Option("--colours")] = ["red"],  # noqa: B006
    ) -> None:
        received.extend((name, options, colours))

    shelves.command()(expand_options(show))
    return shelves, received


def test_a_command_receives_the_object(shelf) -> None:
    shelves, received = shelf
    words = (
        "--folder x --book-names A,B -b C --order size --width 2 --wait 10m --dusty --colours red,blue --colours green"
    )
    assert CliRunner().invoke(shelves, ["top", *words.split()]).exit_code == 0
    chosen = ShelfOptions(folder=Path("x"), book_names=["A", "B", "C"], order="size", width=2.0, wait="10m", dusty=True)
    assert received == ["top", chosen, ["red", "blue", "green"]]


def test_defaults_are_those_of_the_dataclass(shelf) -> None:
    shelves, received = shelf
    assert CliRunner().invoke(shelves, ["top"]).exit_code == 0
    assert received == ["top", ShelfOptions(book_names=[]), ["red"]]


def test_the_help_shows_what_the_dataclass_says(shelf) -> None:
    text = CliRunner().invoke(shelf[0], ["--help"]).output
    for words in ("Shelf options", "'extra[one]'", "-b", "Choices: size, colour.", "[default: 1.5]", "[default: red]"):
        assert words in text
    assert "--hidden" not in text and "--no-dusty" not in text and "None" not in text


def test_values_out_of_a_choice_are_refused(shelf) -> None:
    assert CliRunner().invoke(shelf[0], ["top", "--order", "age"]).exit_code == 2


def test_two_options_of_one_name_are_refused() -> None:
    def show(width: Annotated[float, typer.Option()], options: ShelfOptions) -> None: ...

    with pytest.raises(TypeError, match="two options called width"):
        expand_options(show)


def test_lists_are_split_at_commas_unless_quoted() -> None:
    assert split_list(["a, b", "c"]) == ["a", "b", "c"]
    assert split_list(['"a,b",c', 'x="d,e"']) == ["a,b", "c", 'x="d', 'e"']
    assert split_list(["a,,b"]) == ["a", "", "b"], "an empty name is for the command to judge"
    assert split_list([""]) == [""] and split_list([]) == []


COMMANDS = sorted(command.callback.__name__ for command in app.registered_commands)


def test_the_overview_fits_on_a_screen() -> None:
    result = CliRunner().invoke(app, ["-h"], terminal_width=80)
    assert result.exit_code == 0
    for panel in ("Data", "Models", "Use"):
        assert f"─ {panel} ─" in result.output
    for command in app.registered_commands:
        summary = command.callback.__doc__.strip()
        assert len(summary) <= 60 and "\n" not in summary
        assert summary in result.output
    assert CliRunner().invoke(app).output.strip() == result.output.strip()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(app, [command, "-h"])
    assert result.exit_code == 0 and "--quiet" in result.output and "--verbose" in result.output
    if "DATA" in result.output:
        assert "Read options" in result.output and "--image-column" in result.output


def test_the_version_has_one_place() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"polytag {pt.__version__}\n"


def test_a_wrong_command_line_is_refused_in_one_line() -> None:
    for words in (["nonsense"], ["split"], ["split", "x", "--conflicts", "some"], ["sample", "x", "--images", "many"]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("polytag: ")
        assert "--help" in result.stderr


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["compare", "--help"], ["tag", "none", "none.jpg"]])
def test_what_should_be_quick_imports_nothing_heavy(words: list[str]) -> None:
    code = f"""
import sys
from polytag.cli import main
sys.argv = ["polytag", *{words}]
try:
    main()
except SystemExit:
    pass
heavy = {{"tensorflow", "keras", "pandas", "sklearn", "optuna", "scipy", "pyarrow", "matplotlib"}} & sys.modules.keys()
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
