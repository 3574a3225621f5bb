"""Define command-line options with dataclasses. A command declares ``read: ReadOptions`` and receives the object.

Each field becomes an option. For example, ``image_column`` becomes ``--image-column``. The annotation of the field
contains the help text and, optionally, a short option, as in
``out: Annotated[Path | None, "File to write.", "-o"] = None``. A field without a help text gets no option and keeps its
default value.
"""

import csv
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from functools import wraps
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import OptionInfo

Parameters = dict[str, inspect.Parameter]


def expand_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Replace each dataclass parameter of a command with one option per field.

    Typer reads the new signature. When the command is called, the dataclass is created from its options, so the command
    line and the Python API make the same checks. An option that takes a list can be repeated and accepts commas.
    """
    signature = inspect.signature(command, eval_str=True)
    objects: dict[str, tuple[type, Parameters]] = {}
    parameters: Parameters = {}
    for name, parameter in signature.parameters.items():
        expanded = {name: parameter}
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation):
            expanded = {one.name: one for one in _options_of(parameter.annotation)}
            objects[name] = parameter.annotation, expanded
        if expanded.keys() & parameters.keys():
            raise TypeError(f"{command.__name__} has two options called {min(expanded.keys() & parameters.keys())}")
        parameters |= expanded
    lists = [name for name, parameter in parameters.items() if _takes_list(parameter)]

    @wraps(command)
    def call(**values: Any) -> Any:
        for name in lists:
            values[name] = split_list(values[name] or ())
        for name, (kind, options) in objects.items():
            values[name] = kind(**{option: values.pop(option) for option in options})
        return command(**values)

    keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters.values()]
    call.__signature__ = signature.replace(parameters=keyword_only)  # type: ignore[attr-defined]
    return call


def split_list(values: Sequence[str]) -> list[str]:
    """Split values at commas, so that ``["a,b", "c"]`` becomes ``["a", "b", "c"]``.

    Double quotes protect a comma, so ``'"a,b",c'`` contains two values.
    """
    return [name.strip() for row in csv.reader(values, skipinitialspace=True) for name in row or [""]]


def _takes_list(parameter: inspect.Parameter) -> bool:
    kind, *notes = get_args(parameter.annotation)[:1] + getattr(parameter.annotation, "__metadata__", ())
    return any(isinstance(note, OptionInfo) for note in notes) and _without_none(kind) == list[str]


def _options_of(options: type) -> Iterator[inspect.Parameter]:
    """Yield a Typer parameter for each field of a dataclass."""
    hints = get_type_hints(options, include_extras=True)
    panel = options.__name__.removesuffix("Options") + " options"
    for field in fields(options):
        notes = getattr(hints[field.name], "__metadata__", ())
        if notes:
            kind = _typer_type(get_args(hints[field.name])[0])
            choices = _choices(kind)
            option = typer.Option(
                f"--{field.name.replace('_', '-')}",
                *notes[1:],
                help=_help(notes[0], choices),
                # The choices are listed in the help text, because a column for them would leave no room for the text.
                metavar="" if kind is bool else "<str,...>" if kind == list[str] else "<str>" if choices else None,
                show_default=kind is not bool and _default(field) not in (None, []),
                rich_help_panel=panel,
            )
            yield inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=_default(field),
                annotation=Annotated[kind, option],
            )


def _choices(kind: Any) -> list[str]:
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [one.value for one in kind] if isinstance(kind, type) and issubclass(kind, Enum) else []


def _help(text: str, choices: Sequence[str]) -> str:
    """Return the help text with the choices. Square brackets are escaped because Rich interprets them as markup."""
    if choices:
        text += f" Choices: {', '.join(choices)}."
    return text.replace("[", r"\[")


def _default(field: Field[Any]) -> Any:
    return list(field.default) if isinstance(field.default, tuple) else field.default


def _typer_type(kind: Any) -> Any:
    """Return the type for Typer. A sequence becomes a list of text, and a union that includes text becomes text."""
    kind = _without_none(kind)
    if get_origin(kind) is Sequence or get_origin(kind) is tuple:
        return list[str]
    if str in get_args(kind):
        return str
    return kind


def _without_none(kind: Any) -> Any:
    others = [one for one in get_args(kind) if one is not type(None)]
    return Union[tuple(others)] if type(None) in get_args(kind) else kind  # noqa: UP007
