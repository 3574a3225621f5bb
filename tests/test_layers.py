"""The architecture, held by parsing the imports: they point downward, and Keras stays in its rooms."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import polytag

SOURCE = Path(polytag.__file__).parent
LAYERS = ["errors", "data", "evaluation", "models", "serving", "cli"]
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


def layer(module: str) -> int | None:
    parts = module.split(".")
    return LAYERS.index(parts[1]) if len(parts) > 1 and parts[0] == "polytag" and parts[1] in LAYERS else None


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_imports_point_downward(path: Path) -> None:
    own = layer("polytag." + ".".join(path.relative_to(SOURCE).with_suffix("").parts))
    if own is None:
        return  # the package's own __init__ and __main__ stand above all layers
    for module in imports(path):
        other = layer(module)
        assert other is None or other <= own, f"{path.name} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_keras_and_backends_stay_in_their_rooms(path: Path) -> None:
    heavy = {m.split(".")[0] for m in imports(path)} & {"keras", "tensorflow", "jax", "torch"}
    where = path.relative_to(SOURCE).as_posix()
    if where == "models/backend.py":
        assert heavy == {"keras", "tensorflow"}
    elif where in (
        "models/normalisation.py",
        "models/optimizer.py",
        "models/int8_litert.py",
        "serving/export.py",
        "serving/explain.py",
    ):
        assert heavy <= {"keras", "tensorflow"}
    else:
        assert not heavy


def test_a_room_has_no_cycle() -> None:
    graph = {}
    for path in FILES:
        name = "polytag." + ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        graph[name] = {m for m in imports(path) if m.startswith("polytag.")}
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
