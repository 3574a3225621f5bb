"""Stop a command at Ctrl-C or SIGTERM, within seconds, and say how to continue.

Finished work is on disk already, because a command may also be killed. A command that does not stop by itself can
therefore be ended, for example if a library computes for minutes without looking at signals.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SECONDS = 3
"""Time that a command gets to stop by itself after the first signal."""

AGAIN = "Run the command again."

_advice: Callable[[], str] = lambda: AGAIN  # noqa: E731
_received: int | None = None


def when_stopped(advice: Callable[[], str]) -> None:
    """Set what a stopped command tells the user to do. The function is called when the command stops."""
    global _advice
    _advice = advice


def farewell() -> str:
    """Return the message of a stopped command."""
    return f"polytag: stopped. {_advice()}"


def continuation() -> str:
    """Return the end of an error message that says how to continue, "" if the command has nothing to continue."""
    return "" if (advice := _advice()) == AGAIN else f". {advice}"


def exit_code() -> int:
    """Return the exit code of a stopped command: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (_received or signal.SIGINT)


@contextmanager
def stopping_in_time() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into `KeyboardInterrupt`, and end the process if it does not stop in time.

    The server replaces these handlers with its own, and finishes requests at its own pace.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only.
        return
    global _received
    _received = None
    when_stopped(lambda: AGAIN)
    handlers = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    # Python runs handlers only between two steps of Python code, but writes to this socket at once.
    watched, alarm = socket.socketpair()
    alarm.setblocking(False)
    previous = signal.set_wakeup_fd(alarm.fileno(), warn_on_full_buffer=False)
    over = threading.Event()
    threading.Thread(target=_watch, args=(watched, over), daemon=True).start()
    stopped = False
    try:
        yield
    except KeyboardInterrupt:
        stopped = _received is not None
        raise
    finally:
        # After a signal, the watch goes on, because threads may keep the process from ending.
        if not stopped:
            over.set()
            signal.set_wakeup_fd(previous)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            alarm.close()


def _stop(number: int, frame: FrameType | None) -> None:
    global _received
    _received = number
    raise KeyboardInterrupt


def _watch(watched: socket.socket, over: threading.Event) -> None:
    """Wait for a signal that is ours, and then end the process if it is still there after `SECONDS`."""
    with watched:
        while received := watched.recv(1):
            number = received[0]
            if signal.getsignal(number) is _stop and not over.wait(SECONDS):
                os.write(2, f"\n{farewell()}\n".encode())
                os._exit(128 + number)
