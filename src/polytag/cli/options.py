"""Options as dataclasses: a command declares ``read: ReadOptions`` and receives the object.

Each field becomes an option: ``image_column`` is ``--image-column``. Its annotation holds the help text and, beginning
with a dash, any short form: ``out: Annotated[Path | None, "File to write.", "-o"] = None``. A field without help has no
option and keeps its default.
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
    """Replace each dataclass among a command's parameters by one option per field.

    Typer reads the new signature. On a call, the fields are collected into their object, so that its own checks and
    those of the Python API are the same. Every option that takes a list accepts repetition and commas.
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
    """Split values at commas: ``["a,b", "c"]`` is ``["a", "b", "c"]``. Quotes protect a comma: ``'"a,b",c'``."""
    return [name.strip() for row in csv.reader(values, skipinitialspace=True) for name in row or [""]]


def _takes_list(parameter: inspect.Parameter) -> bool:
    kind, *notes = get_args(parameter.annotation)[:1] + getattr(parameter.annotation, "__metadata__", ())
    return any(isinstance(note, OptionInfo) for note in notes) and _without_none(kind) == list[str]


def _options_of(options: type) -> Iterator[inspect.Parameter]:
    """One parameter for Typer per field of a dataclass."""
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
                # Choices stand in the help text: a column wide enough for them would leave no room for it.
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
    """The help text with the choices. Square brackets are escaped because they would be markup to Rich."""
    if choices:
        text += f" Choices: {', '.join(choices)}."
    return text.replace("[", r"\[")


def _default(field: Field[Any]) -> Any:
    return list(field.default) if isinstance(field.default, tuple) else field.default


def _typer_type(kind: Any) -> Any:
    """The type that Typer parses: a sequence is a list, and what may be text is text."""
    kind = _without_none(kind)
    if get_origin(kind) is Sequence or get_origin(kind) is tuple:
        return list[str]
    if str in get_args(kind):
        return str
    return kind


def _without_none(kind: Any) -> Any:
    others = [one for one in get_args(kind) if one is not type(None)]
    return Union[tuple(others)] if type(None) in get_args(kind) else kind  # noqa: UP007
