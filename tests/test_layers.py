"""The architecture, held by parsing the imports: they point downward, and Keras stays in its rooms."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import polytag

SOURCE = Path(polytag.__file__).parent
FLOORS = [
    {"errors"},
    {"extras", "files"},
    {"progress"},
    {"photos"},
    {"data"},
    {"pages"},
    {"exploring", "auditing", "evaluation"},
    {"models"},
    {"comparison", "serving"},
    {"cli"},
]
"""The rooms from the ground up. A room imports from floors below its own, never from a neighbour."""

KERAS_ROOMS = re.compile(
    r"models/(backend|training/optimizer|networks/normalisation|quantization/litert)\.py|serving/(export|export_files|explaining/.*)\.py"
)
"""Files that may import Keras or TensorFlow themselves. All others take Keras from `polytag.models.backend`."""

FREE_OF_KERAS = re.compile(
    r"(?!models/|serving/|cli/).*|models/(bundle/.*|encoders/.*|runtimes/.*|recipe\.py|backbones/(weights|torch_file)\.py)"
    r"|models/budget/.*|models/quantization/(?!litert).*|serving/(tagging|server|review|scale|web)/.*"
)
"""Files that run where Keras is not installed: neither they nor what they import at the top may lead to it."""

FILES = sorted(SOURCE.rglob("*.py"))


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def name_of(path: Path) -> str:
    parts = ("polytag", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_and_floor(module: str) -> tuple[str, int] | None:
    parts = module.split(".")
    if len(parts) < 2 or parts[0] != "polytag":
        return None
    return next(((parts[1], floor) for floor, rooms in enumerate(FLOORS) if parts[1] in rooms), None)


def test_every_room_has_a_floor() -> None:
    rooms = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in FILES}
    assert rooms - {"__init__", "__main__"} == set().union(*FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_imports_point_downward(path: Path) -> None:
    own = room_and_floor(name_of(path))
    if own is None:
        return  # the package's own __init__ and __main__ stand above all floors
    for module in imports(path):
        other = room_and_floor(module)
        assert other is None or other[0] == own[0] or other[1] < own[1], f"{path.name} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_keras_and_backends_stay_in_their_rooms(path: Path) -> None:
    heavy = {m.split(".")[0] for m in imports(path)} & {"keras", "tensorflow", "jax", "torch"}
    if path.name == "timm_export.py":
        heavy -= {"torch"}
    assert not heavy or (
        KERAS_ROOMS.fullmatch(path.relative_to(SOURCE).as_posix()) and heavy <= {"keras", "tensorflow"}
    )


def test_light_rooms_never_lead_to_keras() -> None:
    graph = {name_of(path): imports(path, top_level_only=True) for path in FILES}

    def reach(module: str, seen: set[str]) -> set[str]:
        for other in graph.get(module, set()) - seen:
            seen.add(other)
            reach(other, seen)
        return seen

    for path in FILES:
        if FREE_OF_KERAS.fullmatch(path.relative_to(SOURCE).as_posix()):
            assert "polytag.models.backend" not in reach(name_of(path), set()), path


def test_a_room_has_no_cycle() -> None:
    graph = {}
    for path in FILES:
        graph[name_of(path)] = {m for m in imports(path) if m.startswith("polytag.")} - {name_of(path)}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"cycle: {' → '.join((*trail, module))}"
        if module in done:
            return
        for other in graph.get(module, ()):
            visit(other, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def test_importing_polytag_imports_no_backend() -> None:
    code = "import polytag, sys; assert not {'tensorflow', 'keras', 'jax', 'torch'} & sys.modules.keys()"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_exported_names_are_sorted_and_exist() -> None:
    assert polytag.__all__ == sorted(polytag.__all__)
    for name in polytag.__all__:
        assert getattr(polytag, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        polytag.nothing  # noqa: B018


def test_files_hold_one_idea_each() -> None:
    assert not {path.name: n for path in FILES if (n := len(path.read_text().splitlines())) > 400}
    assert not [path for path in FILES if path.stem in ("utils", "helpers", "misc", "common")]


def test_functions_fit_on_a_screen() -> None:
    long = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > 80:
                    long[f"{path.relative_to(SOURCE)}:{node.name}"] = lines
    assert not long


def test_every_room_says_what_it_holds_in_one_line() -> None:
    for path in SOURCE.rglob("__init__.py"):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert text, path
        assert path.parent == SOURCE or "\n" not in text, path
        assert len(list(path.parent.glob("*.py"))) <= 14, f"{path.parent} holds too many files"
