"""A PostgreSQL server in a temporary folder. ``python tests/postgres.py`` starts one and prints its address."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def can_start() -> bool:
    return all(map(shutil.which, ("initdb", "pg_ctl"))) and (os.geteuid() != 0 or _other_user() is not None)


def _other_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty database."""
    folder = Path(tempfile.mkdtemp(prefix="polytag-postgres-"))
    user = _other_user() if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)

    def run(*command: str) -> None:
        # The server would keep a pipe open, so the output goes to a file.
        with open(os.devnull, "w") as silence:
            subprocess.run(command, check=True, user=user, cwd=folder, stdout=silence, stderr=silence, timeout=120)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cluster = str(folder / "data")
    try:
        run("initdb", "--pgdata", cluster, "--username", "tester", "--auth", "trust", "--no-sync")
        settings = f"-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        run("pg_ctl", "--pgdata", cluster, "--options", settings, "--log", str(folder / "log"), "--wait", "start")
        try:
            yield f"postgresql://tester@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "--pgdata", cluster, "--mode", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    with postgres() as url:
        input(f"{url}\nPress Enter to stop.\n")
