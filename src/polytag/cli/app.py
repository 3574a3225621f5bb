"""The command-line application, with everything that the commands share, such as common options and error messages."""

import inspect
import logging
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

import polytag as pt
from polytag import progress
from polytag.cli.options import expand_options
from polytag.cli.stopping import continuation, exit_code, farewell, stopping_in_time
from polytag.data.reading.options import ReadOptions
from polytag.errors import ADVICE, MachineError, PolytagError, SettingsError, printable, raise_machine_error
from polytag.extras import missing
from polytag.files import refuse_same_file

if TYPE_CHECKING:
    from polytag.data.dataset import Dataset

Panel = Literal["Data", "Models", "Use"]

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A table (CSV, TSV or Parquet), a folder of labelled photos, an annotation file (such as COCO), or "
        "kaggle:OWNER/NAME.",
    ),
]
BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", metavar="", show_default=False, help="Replace existing output.")
]
SplitFile = Annotated[
    Path | None, typer.Option("--split", help="File that defines the split, with the columns image and part.")
]
Device = Annotated[
    Literal["auto", "cpu", "gpu"] | None,
    typer.Option(metavar="<str>", help="Where networks run: cpu, gpu or auto. Default: $POLYTAG_DEVICE, or auto."),
]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        metavar="",
        show_default=False,
        help="On a GPU too, the same seed gives the same scores. Training takes longer, because XLA is not used.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Random seed.")]
Host = Annotated[str, typer.Option(help="Address to listen on. 127.0.0.1 accepts connections from this machine only.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on. 0 selects a free port.")]

_CONSOLE = {
    "quiet": Annotated[
        bool, typer.Option("--quiet", "-q", metavar="", show_default=False, help="Print results and errors only.")
    ],
    "verbose": Annotated[
        int,
        typer.Option(
            "--verbose", "-v", count=True, metavar="", show_default=False, help="Log progress. -vv logs more detail."
        ),
    ],
}
"""Options that all commands have."""

_quiet = False
_log = logging.getLogger(__name__)


class _Group(TyperGroup):
    """A group of commands that reports errors in the command line as one line, like all other errors."""

    def main(self, args: Sequence[str] | None = None, **settings: Any) -> Any:  # type: ignore[override]
        if not settings.pop("standalone_mode", True):
            return super().main(args, standalone_mode=False, **settings)
        try:
            code = super().main(args, standalone_mode=False, **settings)
        except Exception as error:
            # Typer keeps the classes of these errors in a private module, so they are recognised by this method.
            if not hasattr(error, "format_message"):
                raise
            usage = getattr(error, "ctx", None)
            hint = "" if usage is None else f" Try: {usage.command_path} --help"
            print(f"polytag: {error.format_message().rstrip('.')}.{hint}", file=sys.stderr)
            sys.exit(2)
        sys.exit(code if isinstance(code, int) else 0)


app = typer.Typer(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def polytag(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", metavar="", show_default=False, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train models that assign several labels to each photo, compare them, and use the best one."""
    if version:
        print(f"polytag {pt.__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def command(panel: Panel) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that registers a command and adds the features that all commands share.

    The command gets the options of its dataclasses and the options -q and -v. Expected errors are printed as one line,
    with exit code 2.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        # Without short_help, Typer truncates the summaries in the reference.
        app.command(rich_help_panel=panel, short_help=function.__doc__)(
            _with_console(_one_line_errors(expand_options(function)))
        )
        return function

    return register


def _with_console(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options --quiet and --verbose to a command, and apply them when it is called."""

    @wraps(function)
    def call(*, quiet: bool, verbose: int, **values: Any) -> Any:
        global _quiet
        _quiet = progress.hidden = quiet
        if verbose:
            logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
        logging.getLogger("polytag").setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])
        return function(**values)

    signature = inspect.signature(function)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=0 if name == "verbose" else False, annotation=a)
        for name, a in _CONSOLE.items()
    ]
    call.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
    return call


def _one_line_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Print an expected error as one line and exit with code 2. A stopped command says how to continue."""

    @wraps(function)
    def call(**values: Any) -> Any:
        try:
            with stopping_in_time():
                return function(**values)
        except (PolytagError, ModuleNotFoundError) as error:
            # If no extra installs the module, the installation is damaged or the code is wrong, so the traceback helps.
            expected = missing(error) if isinstance(error, ModuleNotFoundError) else error
            if expected is None:
                raise
            end = continuation() if isinstance(expected, MachineError) else ""
            print(f"polytag: {printable(str(expected))}{printable(end)}", file=sys.stderr)
            raise typer.Exit(2) from None
        except BrokenPipeError:
            raise  # The program that reads the output has closed it. Typer then exits silently.
        except MemoryError:
            print(f"polytag: out of memory: {ADVICE['ENOMEM']}{continuation()}", file=sys.stderr)
            raise typer.Exit(2) from None
        except OSError as error:
            print(f"polytag: {printable(_unforeseen(error))}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print(farewell(), file=sys.stderr)
            raise typer.Exit(exit_code()) from None

    return call


def _unforeseen(error: OSError) -> str:
    """Return the operating system's message, with advice if the computer is to blame."""
    try:
        raise_machine_error(error)
    except MachineError as known:
        return f"{known}{continuation()}"
    place = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{place}"


def note(*lines: object) -> None:
    """Print lines unless --quiet is given. Characters that could control the terminal are escaped."""
    if lines and not _quiet:
        print(*(printable(str(line)) for line in lines), sep="\n", flush=True)


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[str | Path | None], overwrite: bool) -> None:
    """Check before any work that no output already exists, is also an input, or is named twice.

    Args:
        outputs: files to write; ``None`` for an output that was not requested.
        inputs: files to read. If an input is a data set, its label files are checked, too.
        overwrite: whether existing files may be replaced. Inputs are never replaced.

    Raises:
        SettingsError: an output cannot be used.
    """
    from polytag.data.reading.forms import inputs_of

    given = [Path(path) for path in inputs if path is not None]
    read = [file for path in given for file in (path, *inputs_of(path))]
    written: set[Path] = set()
    for path in outputs:
        if path is not None:
            refuse_same_file(path, read)
            if path.exists() and not overwrite:
                raise SettingsError(f"{path} exists already. Choose another path, or add --overwrite.")
            if path.resolve() in written:
                raise SettingsError(f"{path} is used for two outputs. Choose a different path for one of them.")
            written.add(path.resolve())


def load(source: str, options: ReadOptions) -> "Dataset":
    """Read the data and print how it was interpreted."""
    start = time.perf_counter()
    data = pt.read(source, options, show_progress=True)
    _log.info("read %d images and %d labels in %.1f s", len(data), len(data.labels), time.perf_counter() - start)
    note(data, *(f"  {one}" for one in data.notes))
    return data
