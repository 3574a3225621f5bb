"""Ctrl-C and SIGTERM end every command within seconds, with a line that says how to continue."""

import os
import signal
import subprocess
import sys
import time

import pytest

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
