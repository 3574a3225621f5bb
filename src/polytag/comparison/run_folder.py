"""The folder of a run: its settings, the check whether the run can be resumed, and the removal of an earlier run.

::

    run.json               the settings; the file marks a folder as written by polytag
    split.csv              the split of the first repeat
    baseline/, tuned/, …   the bundles of the first repeat
    tuned.part/            progress of a training that is not finished
    repeat-2/, …           split and bundles of each further repeat
    results.json           all numbers
    report.html, report.md
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polytag.errors import SettingsError, counted, raise_machine_error
from polytag.files import LOCK_FILE, TRAINING_FILE, lock, unfinished, write_json
from polytag.models.bundle.bundle import check_unused
from polytag.models.recipe import ALL_MODELS

RUN_FILE = "run.json"
"""Name of the file with the settings of a run."""

WRITTEN = ("results.json", "report.html", "report.md", "split.csv")
"""Files that a run writes in addition to its bundles and settings."""


def repeat_folder(folder: Path, repeat: int) -> Path:
    """Return the folder of a repeat, counted from 1. The first repeat uses the run's own folder."""
    return folder if repeat == 1 else folder / f"repeat-{repeat}"


def started_run(folder: Path, resume: bool, overwrite: bool) -> dict[str, Any] | None:
    """Return the settings of the run in this folder, or ``None`` if there is no run. Nothing is changed.

    Raises:
        SettingsError: the folder holds something other than a run, or it holds a run and neither ``resume`` nor
            ``overwrite`` is set.
    """
    if resume and overwrite:
        raise SettingsError("--resume and --overwrite exclude each other. Choose one.")
    if not folder.exists():
        check_unused(folder)
        return None
    try:
        if folder.is_dir() and all(entry.name == LOCK_FILE for entry in folder.iterdir()):
            return None
        started = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise_machine_error(error)
        started = None
    if not isinstance(started, dict) or not {"polytag", "models", "data", "split"} <= started.keys():
        raise SettingsError(f"{folder} exists and is not a run of polytag. Name another folder with --out.")
    if not resume and not overwrite:
        raise SettingsError(f"{folder} already holds a run. Add --resume to continue it, or --overwrite to replace it.")
    return started


def check_repeats(folder: Path, repeats: Mapping[str, int], started: Mapping[str, Any]) -> None:
    """Refuse to resume a run with fewer repeats, because selecting among finished repeats would bias the scores.

    Raises:
        SettingsError: a model had more repeats in the earlier run.
    """
    for model, before in (started.get("repeats") or {}).items():
        if repeats.get(model, before) < before:
            raise SettingsError(
                f"{folder} was started with {counted(before, 'repeat')} of {model}. Give as many or more, or add "
                "--overwrite."
            )


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Create the run's folder if needed, and keep other processes from writing to it.

    Raises:
        SettingsError: another process is writing to the folder, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = lock(folder / LOCK_FILE)
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written ({error.strerror}). Name another place with --out.") from None
    with file:
        yield


def prepare_folder(folder: Path, request: Mapping[str, Any], started: Mapping[str, Any] | None) -> None:
    """Check that a resumed run has the same settings, or clear the folder for a new run.

    Only files that polytag wrote are removed. The folder is locked.

    Args:
        folder: the run's folder.
        request: the current settings. "repeats" may be higher than before, with more hashes in "split".
        started: the settings of the earlier run, ``None`` for a new run.

    Raises:
        SettingsError: a setting differs, or the folder cannot be written.
    """
    if started is not None:
        check_repeats(folder, request["repeats"], started)
        splits = started["split"]
        comparable = {**started, "repeats": request["repeats"]}
        if isinstance(splits, list) and splits == request["split"][: len(splits)]:
            comparable["split"] = request["split"]
        changed = [name for name in request if comparable.get(name) != request[name]]
        if changed:
            raise SettingsError(
                f"{folder} was started with other {', '.join(changed)}. Repeat its settings, or add --overwrite."
            )
    try:
        if started is None:
            _empty(folder)
            for repeat in filter(Path.is_dir, folder.glob("repeat-*")):
                _empty(repeat)
                if not any(repeat.iterdir()):
                    repeat.rmdir()
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written ({error.strerror}). Name another place with --out.") from None
    if request != started:
        write_json(folder / RUN_FILE, request)


def _empty(folder: Path) -> None:
    """Remove the bundles and files of one repeat."""
    for model in ALL_MODELS:
        for leftover in (folder / model, unfinished(folder / model), *folder.glob(f".{model}.*")):
            ours = (leftover / "bundle.json", leftover / TRAINING_FILE)
            if any(file.exists() for file in ours) or leftover.name.startswith("."):
                shutil.rmtree(leftover)
    for name in WRITTEN:
        (folder / name).unlink(missing_ok=True)
