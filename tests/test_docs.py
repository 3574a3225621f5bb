"""The documentation tells the truth: commands exist, options exist, the reference is the current one."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

import polytag
from polytag.cli import app
from polytag.evaluation.metrics import TITLES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def code_blocks(page: Path) -> str:
    return "\n".join(re.findall(r"^```[a-z]*\n(.*?)^```", page.read_text(), re.S | re.M))


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "cli.md"], ids=lambda p: p.name)
def test_commands_and_options_exist(page: Path) -> None:
    for line in code_blocks(page).splitlines():
        words = line.removeprefix("$ ").split("#")[0].split()
        if words[:1] == ["polytag"]:
            assert words[1] in COMMANDS, line
            known = {option for p in COMMANDS[words[1]].params for option in (*p.opts, *p.secondary_opts)}
            assert {word.split("=")[0] for word in words[2:] if word.startswith("--")} <= known, line
        if words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), line


def slug(title: str) -> str:
    """What links call a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
        if not target.startswith("http"):
            there = page.parent / target if target else page
            assert there.exists(), target
            titles = re.findall(r"^#+ (.*)", there.read_text(), re.M) if heading else []
            assert not heading or heading in map(slug, titles), (target, heading)


def test_the_command_line_reference_is_current(tmp_path) -> None:
    out = tmp_path / "cli.md"
    command = [sys.executable, "-m", "typer", "polytag.cli", "utils", "docs", "--name", "polytag", "--output", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    assert out.read_text() == (ROOT / "docs" / "reference" / "cli.md").read_text(), "run 'make docs'"


def test_every_score_is_explained() -> None:
    text = (ROOT / "docs" / "how-it-works" / "evaluation.md").read_text().lower()
    for title in TITLES.values():
        if title not in ("Label accuracy", "Micro-F1", "Macro-F1"):
            assert title.lower() in text, title


def test_the_example_in_the_readme_is_the_one_in_the_docstring() -> None:
    lines = [line.removeprefix(">>> ") for line in (polytag.__doc__ or "").splitlines() if line.startswith(">>> ")]
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)
    assert "\n".join(lines) in blocks[0]
    compile("\n".join(lines), "example", "exec")


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project and "version" in project["dynamic"]
    assert f"## {polytag.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_machine_and_no_registry_is_named() -> None:
    names = ""
    if shutil.which("git"):
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout
    files = [ROOT / name for name in names.split("\0") if name] or [*ROOT.glob("src/**/*.py")]
    for path in files:
        if path.suffix in (".py", ".md", ".toml", ".txt", ".html", "") and path.is_file() and path != Path(__file__):
            text = path.read_text(encoding="utf-8", errors="ignore")
            assert not re.search(r"--index-url|--extra-index|/home/\w|/root/", text), path
