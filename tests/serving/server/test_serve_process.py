"""The tagging server as it runs: slow and silent clients, huge bodies, and the end."""

import asyncio
import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from odd_uploads import BAD, photo

from polytag.models.bundle.bundle import Bundle
from polytag.serving.server.server import tagging_app
from polytag.serving.server.uploads import Limits
from polytag.serving.web import connections
from polytag.serving.web.http import FastAPI
from until import until

Start = Callable[..., tuple[subprocess.Popen, int]]


@pytest.fixture
def start(colours: Bundle) -> Iterator[Start]:
    """``start(…)`` runs ``polytag serve`` with these options and variables; gives the process and its port."""
    running = []

    def serve(*words: str, **environment: str) -> tuple[subprocess.Popen, int]:
        process = subprocess.Popen(
            [sys.executable, "-m", "polytag", "serve", str(colours.path), *(words or ("--port", "0"))],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "colours: 3 labels\n"
        address = re.fullmatch(
            r"Open http://127\.0\.0\.1:(\d+)/ in a browser, .*\. Press Ctrl-C to stop\.\n", process.stdout.readline()
        )
        assert address
        return process, int(address[1])

    yield serve
    for process in running:
        process.kill()
        process.communicate()


def post(port: int, body: Any, path: str = "/v1/tag", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """Wait for the end of a process: its exit code, and what it said of errors."""
    _, said = process.communicate(timeout=20)
    return process.returncode, said


def peak_megabytes(process: subprocess.Popen) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1000  # type: ignore[index]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_nothing_that_is_sent_takes_its_memory_or_brings_it_down(start: Start) -> None:
    process, port = start()
    assert post(port, photo())[0] == 200
    before = peak_megabytes(process)
    for content, status, words in BAD.values():
        found, text = post(port, content)
        assert found == status and words in text
    assert post(port, bytes(49_000_000))[0] == 415  # as large as is taken
    megabytes = [bytes(1_000_000)] * 200
    assert post(port, iter(megabytes), **{"Content-Length": "200000000"})[0] == 413
    assert post(port, iter(megabytes))[0] == 413  # in chunks, without a length
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    assert post(port, b"--b\r\nA: b\r\n\r\nx\r\n" * 1000 + b"--b--", **form)[0] == 422
    assert post(port, photo())[0] == 200
    # A body of 50 MB is held, twice for a moment; the photo of 900 million pixels and the 200 MB are not.
    assert peak_megabytes(process) - before < 170
    process.send_signal(signal.SIGINT)
    assert ended(process) == (0, "")


def test_the_end_waits_for_what_is_under_way(start: Start) -> None:
    process, port = start(POLYTAG_API_KEY="secret")
    assert post(port, photo())[0] == 401
    content = photo()
    head = f"POST /v1/tag HTTP/1.1\r\nHost: a\r\nX-API-Key: secret\r\nContent-Length: {len(content)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as under_way, socket.create_connection(("127.0.0.1", port)):
        under_way.settimeout(20)
        under_way.sendall(head.encode() + content[:100])
        assert b"polytag_requests" in metrics(port)  # what was sent before has arrived
        process.send_signal(signal.SIGTERM)
        until(lambda: not can_connect(port))
        assert process.poll() is None
        under_way.sendall(content[100:])
        answer = under_way.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 OK") and b'"probability"' in answer
    code, said = ended(process)
    assert (code, said) == (0, "")


def test_servers_share_a_port_and_are_replaced_one_by_one(start: Start) -> None:
    first, port = start("--port", "0", "--share-port")
    second, _ = start("--port", str(port), "--share-port")
    alone = subprocess.run(
        [*first.args[:-1], "--port", str(port)],
        capture_output=True,
        text=True,
        timeout=60,  # type: ignore[index]
    )
    assert alone.returncode == 2 and "Cannot listen on 127.0.0.1" in alone.stderr

    def served(process: subprocess.Popen) -> float:
        """Processor seconds, which say whether the process took work."""
        return sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))

    before = served(first), served(second)
    assert {post(port, photo())[0] for _ in range(60)} == {200}
    assert served(first) > before[0] and served(second) > before[1]
    first.send_signal(signal.SIGTERM)
    assert ended(first) == (0, "")
    assert {post(port, photo())[0] for _ in range(10)} == {200}
    start("--port", str(port), "--share-port")
    second.send_signal(signal.SIGTERM)
    assert ended(second) == (0, "") and post(port, photo())[0] == 200


def metrics(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics", headers={"X-API-Key": "secret"})
    text = connection.getresponse().read()
    connection.close()
    return text


def can_connect(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def port_of(address: str) -> int:
    port = urlsplit(address).port
    assert port
    return port


def test_a_slow_body_is_given_up(served: Callable[[Any], str], colours: Bundle) -> None:
    port = port_of(served(tagging_app({"colours": colours}, limits=Limits(upload_seconds=0.3))))
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.settimeout(20)
        slow.sendall(b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
        assert post(port, photo())[0] == 200  # nobody waits for it
        answer = slow.makefile("rb").read().decode()  # to the end: the server closes the connection
    assert answer.startswith("HTTP/1.1 408 ")
    assert "application/problem+json" in answer
    assert "The upload took longer than 0.3 seconds" in answer


@pytest.mark.parametrize("said", [b"", b"POST /v1/tag HTTP/1.1\r\nHost: loc"])
def test_a_client_without_a_request_is_dropped(
    said: bytes, served: Callable[[Any], str], colours: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.3)
    port = port_of(served(tagging_app({"colours": colours})))
    with socket.create_connection(("127.0.0.1", port)) as silent:
        silent.settimeout(20)
        silent.sendall(said)
        assert silent.recv(1) == b""
    assert post(port, photo())[0] == 200


def test_a_request_under_way_is_not_taken_for_silence(
    served: Callable[[Any], str], colours: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 1.0)
    port = port_of(served(tagging_app({"colours": colours})))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    content = photo()

    def slowly() -> Iterator[bytes]:
        yield content[:100]
        time.sleep(1.5)
        yield content[100:]

    for _ in range(2):  # on one connection
        connection.request("POST", "/v1/tag", slowly(), {"Content-Length": str(len(content))})
        answer = connection.getresponse()
        assert (answer.status, b"probability" in answer.read()) == (200, True)
    connection.close()


def test_requests_that_come_together_are_both_waited_for(
    served: Callable[[Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.2)
    app = FastAPI()

    @app.get("/")
    async def slowly() -> str:
        await asyncio.sleep(0.5)
        return "there"

    with socket.create_connection(("127.0.0.1", port_of(served(app)))) as client:
        client.settimeout(20)
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
        answers = client.makefile("rb").read()  # to the end: then nothing more is asked
    assert answers.count(b'"there"') == 2


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
UNFINISHED = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize("limit", ["MOST_CONNECTIONS", "MOST_PER_ADDRESS"])
def test_silent_connections_make_room_for_others(
    limit: str, served: Callable[[Any], str], colours: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, limit, 3)
    port = port_of(served(tagging_app({"colours": colours})))
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(12)]
    statuses = [post(port, photo())[0] for _ in range(3)]
    dropped = 0
    for client in silent:
        client.settimeout(0.2)
        with contextlib.suppress(TimeoutError), client:
            dropped += client.recv(1) == b""
    assert statuses == [200] * 3 and dropped >= 10


def test_a_connection_that_was_used_outlives_a_silent_one(
    served: Callable[[Any], str], colours: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 2)
    port = port_of(served(tagging_app({"colours": colours})))
    used = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for _ in range(3):
        used.request("POST", "/v1/tag", photo())
        assert used.getresponse().read()
        with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)) as last:
            last.sendall(HEALTH)
            assert last.makefile("rb").read().startswith(b"HTTP/1.1 200")
    used.close()


@pytest.mark.parametrize("limit", ["MOST_CONNECTIONS", "MOST_PER_ADDRESS"])
def test_only_busy_connections_lead_to_refusals_and_health_is_always_answered(
    limit: str, served: Callable[[Any], str], colours: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, limit, 1)
    port = port_of(served(tagging_app({"colours": colours})))
    with socket.create_connection(("127.0.0.1", port)) as busy:
        busy.sendall(UNFINISHED)
        assert busy.recv(20).startswith(b"HTTP/1.1 100")  # now the app waits for the body
        assert post(port, bytes(5_000_000))[0] == 503
        answer = received(port, HEALTH.replace(b"healthz", b"v1/model"))
        assert received(port, HEALTH).startswith("HTTP/1.1 200 ")
    assert answer.startswith("HTTP/1.1 503 ") and "application/problem+json" in answer
    assert "retry-after: 1\r\n" in answer and "x-content-type-options: nosniff\r\n" in answer
    assert '"detail":"Too many connections. Try again in a moment."' in answer
    until(lambda: post(port, photo())[0] == 200)
    assert b'polytag_requests_total{route="other",status="503"} 2.0' in metrics(port)


def test_other_protocols_are_refused_quietly(
    served: Callable[[Any], str], colours: Bundle, capfd: pytest.CaptureFixture
) -> None:
    port = port_of(served(tagging_app({"colours": colours})))
    assert received(port, b"\x16\x03\x01\x02\x00 this is TLS\r\n\r\n").startswith("HTTP/1.1 400 ")
    assert post(port, photo())[0] == 200
    assert capfd.readouterr() == ("", "")


def received(port: int, sent: bytes) -> str:
    """What the server answers until it closes the connection, its headers in lower case."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(20)
        client.sendall(sent)
        first, _, rest = client.makefile("rb").read().decode().partition("\r\n")
        head, _, body = rest.partition("\r\n\r\n")
        return f"{first}\r\n{head.lower()}\r\n\r\n{body}"


def test_a_client_that_leaves_is_no_error(
    served: Callable[[Any], str], colours: Bundle, capfd: pytest.CaptureFixture
) -> None:
    port = port_of(served(tagging_app({"colours": colours})))
    with socket.create_connection(("127.0.0.1", port)) as leaving:
        leaving.sendall(b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
    assert post(port, photo())[0] == 200
    time.sleep(0.1)
    assert capfd.readouterr() == ("", "")
