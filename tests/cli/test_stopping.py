"""Ctrl-C and SIGTERM end every command within seconds, with a line that says how to continue."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import polytag as pt
from polytag.cli import app

PROGRAM = """
import hashlib, sys, threading, time
from polytag.cli import main
from polytag.cli.app import command
from polytag.cli.stopping import when_stopped


@command("Data")
def work() -> None:
    \"\"\"Work for ever.\"\"\"
    when_stopped(lambda: "Add --resume to continue.")
    print("ready", flush=True)
    {work}


sys.argv = ["polytag", "work"]
main()
"""

WORKS = {
    "in Python": "time.sleep(60)",
    # Computes for minutes in C, as TensorFlow and scikit-learn may. Python runs no signal handler meanwhile.
    "in a library": "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
    "with a thread that does not end": "threading.Thread(target=time.sleep, args=(60,)).start(); time.sleep(60)",
}


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_in_five_seconds(work, number) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(work=WORKS[work])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert (
        stderr.strip().splitlines()[-1] == "polytag: stopped. Add --resume to continue." and "Traceback" not in stderr
    )


def test_a_full_disk_and_a_lost_process_say_how_to_continue(tmp_path, monkeypatch, squares) -> None:
    data = Path(squares[0].paths[0]).parent / "labels.csv"
    out = tmp_path / "bundle"

    def full(*arguments: object, **settings: object) -> None:
        (tmp_path / "bundle.part").mkdir()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pt, "fit", full)
    words = ["train", str(data), "--model", "baseline", "--out", str(out), "-q"]
    first, second = CliRunner().invoke(app, words), CliRunner().invoke(app, words)
    assert (first.exit_code, second.exit_code) == (2, 2)
    assert first.stderr == "polytag: No space left on device: free some disk space. Add --resume to continue.\n"
    assert second.stderr.endswith(
        "bundle.part was left by an interrupted training. Add --resume to continue, or delete it.\n"
    )
