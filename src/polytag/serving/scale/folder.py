"""The output folder: one Parquet file per shard, and a record of the settings that made them.

::

    .lock                              locked while a run writes to the folder
    _run.json                          bundle, settings and sources; the counts once the run is complete
    part-000000-1f0c5a92be77.parquet   rows of the first shard

A file appears only when it is complete, under a name that depends on the photos of its shard. An interrupted run
therefore continues with the shards whose files do not exist. Programs that read a folder of Parquet files ignore names
that begin with an underscore.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from polytag.errors import SettingsError
from polytag.files import LOCK_FILE, lock, write_bytes_atomically, write_json

RECORD = "_run.json"

PART = re.compile(r"part-\d{6,}-[0-9a-f]{12}\.parquet")


class PartFolder:
    """An output folder, filled in one run or in several.

    Args:
        path: the folder.
        settings: settings that decide the rows, as JSON. A run with others cannot continue the folder.
        resume: continue an earlier run.
        overwrite: delete the output of an earlier run.

    Raises:
        SettingsError: the folder cannot be used, contains other files, or was started with other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any], resume: bool = False, overwrite: bool = False) -> None:
        self.path = path
        self._settings = json.loads(json.dumps(settings))  # as it will be read again
        self._overwrite = overwrite
        self._existing: set[str] = set()
        if path.exists() and not path.is_dir():
            raise SettingsError(f"{path} is a file: name a folder with --out")
        if (path / RECORD).exists():
            if not (resume or overwrite):
                raise SettingsError(f"{path} exists already: add --resume to continue, or --overwrite to start again")
            if not overwrite and self._recorded() != self._settings:
                raise SettingsError(
                    f"{path} was written from other sources, with another bundle or with other settings: "
                    "add --overwrite to start again"
                )
        elif path.exists() and any(entry.name != LOCK_FILE for entry in path.iterdir()):
            raise SettingsError(f"{path} exists already and is not the output of such a run: choose another --out")

    def _recorded(self) -> Any:
        try:
            return json.loads((self.path / RECORD).read_text(encoding="utf-8"))["settings"]
        except (ValueError, TypeError, KeyError):
            return None

    def __contains__(self, name: str) -> bool:
        return name in self._existing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the folder, and delete the output of an earlier run if it is to be overwritten.

        If the block fails before a file is written, the folder is removed, because there is nothing to continue.

        Raises:
            SettingsError: another process writes to the folder, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            locked = lock(self.path / LOCK_FILE)
        except OSError as error:
            raise SettingsError(f"{self.path} cannot be written ({error.strerror}): choose another --out") from None
        with locked:
            parts = [file for file in self.path.iterdir() if PART.fullmatch(file.name)]
            for file in parts if self._overwrite else ():
                file.unlink()
            self._existing = set() if self._overwrite else {file.name for file in parts}
            write_json(self.path / RECORD, {"settings": self._settings})
            try:
                yield
            except BaseException:
                if not self._existing:
                    (self.path / RECORD).unlink()
                    (self.path / LOCK_FILE).unlink()
                    with suppress(OSError):  # The folder is not empty.
                        self.path.rmdir()
                raise

    def write(self, name: str, content: bytes) -> None:
        """Write the file of a shard."""
        with write_bytes_atomically(self.path / name) as file:
            file.write(content)
        self._existing.add(name)

    def finish(self, names: Iterable[str]) -> tuple[int, int]:
        """Delete the files of shards that no longer exist, count the rows, and record that the run is complete.

        Args:
            names: the files of all shards.

        Returns:
            The number of rows, and the number of rows with an error.
        """
        wanted = set(names)
        for name in self._existing - wanted:
            (self.path / name).unlink()
        rows = errors = 0
        for name in sorted(wanted):
            some, unreadable = _counted(self.path / name)
            rows, errors = rows + some, errors + unreadable
        write_json(self.path / RECORD, {"settings": self._settings, "photos": rows, "unreadable": errors})
        return rows, errors


def _counted(path: Path) -> tuple[int, int]:
    """Return the number of rows and of rows with an error, from the statistics at the end of the file."""
    from pyarrow.parquet import read_metadata

    about = read_metadata(path)
    column = next(i for i in range(about.num_columns) if about.schema.column(i).path == "error")
    nulls = sum(about.row_group(group).column(column).statistics.null_count for group in range(about.num_row_groups))
    return about.num_rows, about.num_rows - nulls
