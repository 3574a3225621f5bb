"""The server under load: many clients with some bad uploads, compared with tagging in one process.

    python benchmarks/serve_load.py BUNDLE DATA [--seconds 120] [--clients 16] [--bad 0.3] [--slow 50] [--silent 500]
                                    [--servers 1] [--out F]

The server runs in its own process, started as `polytag serve` starts it; this process plays the clients. Each client
sends one upload after another over the loopback interface: a photo of DATA, or something bad. Meanwhile, slow clients
send a byte of a request twice a second, and silent ones send nothing; they connect again when they are disconnected.
With several servers, all listen on one port (--share-port). Before and after, the
same mix goes through `Bundle.stream` in this process, from memory, for a sixth of the time each. The server shares
the machine with its clients, and in-process tagging does not: the clients' processor time says how much they took.

Before the load, a stall test: a client sends 24 PNGs of 26 megapixels in one request (about 2 MB) and leaves after a
second. Others send a small photo before, meanwhile and afterwards.

Prints JSON: the stall test, requests by status, latencies of good uploads, photos per second of both ways and their
ratio, and the
server's memory before, during (peak) and after the load (Linux only).
"""

import argparse
import http.client
import io
import itertools
import json
import os
import random
import re
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

import polytag as pt

FORM = {"Content-Type": "multipart/form-data; boundary=b"}
PART = b'--b\r\nContent-Disposition: form-data; name="photo"; filename="../photo.jpg"\r\n\r\n%b\r\n'
END = b"--b--\r\n"
LEAVES = {"Content-Length": "10000000"}


def bomb(side: int = 30_000) -> bytes:
    """A PNG of 900 million white pixels in 110 kB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    row = b"\0" + b"\xff" * (side // 8)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


class Upload(NamedTuple):
    """What a client sends, and the photo in it if the server decodes one."""

    body: bytes
    headers: dict[str, str]
    photo: bytes | None


def bad_uploads(photo: bytes) -> list[Upload]:
    return [
        *(
            Upload(content, {"Content-Type": kind}, content)
            for content, kind in (
                (b"This is no photo.\n" * 500, "image/jpeg"),
                (photo[: len(photo) // 2], "image/jpeg"),
                (b"", "image/jpeg"),
                (bomb(), "image/png"),
                (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
                (b"\0\0\0\x18ftypheic" + bytes(5000), "image/heic"),
            )
        ),
        Upload(PART % photo, FORM, None),
        Upload(PART % b"x" * 1000 + END, FORM, None),
        Upload(photo, {"Content-Type": "multipart/form-data"}, None),
        # Both end before the announced length: the first is refused, the second just disconnects.
        Upload(photo, {"Content-Length": "200000000"}, None),
        Upload(photo, LEAVES, None),
    ]


class Load:
    """Random uploads and their outcomes."""

    def __init__(self, photos: list[bytes], bad: float) -> None:
        self.photos, self.share = photos, bad
        self.bad = bad_uploads(photos[0])
        self.statuses: Counter[int | str] = Counter()
        self.seconds: list[float] = []
        self.tagged = 0

    def uploads(self, seed: int) -> Iterator[Upload]:
        rng = random.Random(seed)
        while True:
            if rng.random() < self.share:
                yield rng.choice(self.bad)
                continue
            photo = rng.choice(self.photos)
            if rng.random() < 0.5:
                yield Upload(photo, {"Content-Type": "image/jpeg"}, photo)
            else:
                yield Upload(PART % photo + END, FORM, photo)

    def client(self, port: int, seed: int, end: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        for upload in self.uploads(seed):
            if time.perf_counter() > end:
                break
            start = time.perf_counter()
            try:
                connection.request("POST", "/v1/tag", upload.body, upload.headers)
                if upload.headers is LEAVES:
                    connection.close()
                    self.statuses["left"] += 1
                    continue
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.statuses[type(error).__name__] += 1
                connection.close()
                continue
            if "Content-Length" in upload.headers:
                connection.close()
            self.statuses[answer.status] += 1
            if answer.status == 200:
                self.tagged += len(json.loads(text)["images"])
                self.seconds.append(time.perf_counter() - start)
        connection.close()


def hold(port: int, end: float, slow: bool) -> None:
    """Occupy a connection until the end: send a byte twice a second, or nothing."""
    request = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000_000)
    while time.perf_counter() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
                for byte in request:
                    if time.perf_counter() > end:
                        return
                    if slow:
                        connection.sendall(bytes([byte]))
                    try:
                        if not connection.recv(1):
                            break
                    except TimeoutError:
                        pass
        except OSError:
            time.sleep(0.5)


def seconds_of(port: int, photo: bytes) -> float:
    """Time from the connection to the answer for one photo."""
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/v1/tag", photo, {"Content-Type": "image/jpeg"})
    assert connection.getresponse().status == 200
    connection.close()
    return time.perf_counter() - start


def waiting(port: int) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return float(re.search(r"^polytag_waiting_photos (\S+)", text, re.M)[1])  # type: ignore[index]


def stall(port: int, photo: bytes) -> dict[str, float]:
    """Times of a small photo before, while and after a client sends large ones, in milliseconds."""
    file = io.BytesIO()
    Image.new("RGB", (6500, 4000), (200, 100, 50)).save(file, "PNG")
    body = PART % file.getvalue() * 24 + END
    before = statistics.median(seconds_of(port, photo) for _ in range(20))
    large = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    large.request("POST", "/v1/tag", body, FORM)
    left = time.perf_counter() + 1
    during = []
    while time.perf_counter() < left:
        during.append(seconds_of(port, photo))
    large.close()
    closed, after = time.perf_counter(), seconds_of(port, photo)
    while waiting(port):
        time.sleep(0.05)
    return {
        "before": round(1000 * before, 1),
        "worst while the large ones are there": round(1000 * max(during), 1),
        "after their client has left": round(1000 * after, 1),
        "until their work was dropped": round(1000 * (time.perf_counter() - closed), 1),
    }


def run_clients(load: Load, port: int, clients: int, seconds: float) -> tuple[float, float]:
    """Wall-clock and processor seconds of the clients."""
    start, processor = time.perf_counter(), time.process_time()
    threads = [threading.Thread(target=load.client, args=(port, seed, start + seconds)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start, time.process_time() - processor


def in_process(bundle: pt.Bundle, load: Load, seconds: float, seed: int) -> float:
    """Photos per second of the same mix through `Bundle.stream`, without uploads that are never decoded."""
    end = time.perf_counter() + seconds
    mix = (upload.photo for upload in load.uploads(seed) if upload.photo is not None)
    start, tagged = time.perf_counter(), 0
    for found in bundle.stream(itertools.takewhile(lambda _: time.perf_counter() < end, mix)):
        tagged += not isinstance(found, pt.ImageError)
    return tagged / (time.perf_counter() - start)


def megabytes(processes: list[subprocess.Popen]) -> dict[str, int]:
    """Memory of all servers together."""
    return {name: sum(_megabytes(process)[name] for process in processes) for name in ("resident", "peak")}


def _megabytes(process: subprocess.Popen) -> dict[str, int]:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return {
        name: round(int(re.search(rf"{field}:\s+(\d+)", status)[1]) / 1000)  # type: ignore[index]
        for name, field in (("resident", "VmRSS"), ("peak", "VmHWM"))
    }


def start_server(bundle: Path, port: int, *more: str) -> tuple[subprocess.Popen, int]:
    command = [sys.executable, "-m", "polytag", "serve", str(bundle), "--port", str(port), *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
            return process, int(found[1])
    raise SystemExit("the server did not start")


def small_jpeg(path: str) -> bytes:
    """A photo's file, converted to JPEG if necessary."""
    content = Path(path).read_bytes()
    if content[:2] == b"\xff\xd8":
        return content
    file = io.BytesIO()
    Image.open(path).convert("RGB").save(file, "JPEG", quality=90)
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--bad", type=float, default=0.3, help="share of bad uploads")
    parser.add_argument("--slow", type=int, default=0, help="number of slow clients")
    parser.add_argument("--silent", type=int, default=0, help="number of silent clients")
    parser.add_argument("--servers", type=int, default=1, help="number of servers that share the port")
    parser.add_argument("--photos", type=int, default=500, help="number of DATA's photos to send")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    paths = pt.read(arguments.data, conflicts="unknown").paths[: arguments.photos]
    load = Load([small_jpeg(path) for path in paths], arguments.bad)
    bundle = pt.Bundle(arguments.bundle)
    in_process(bundle, load, 2, seed=1)  # what happens once happens here
    alone = [in_process(bundle, load, arguments.seconds / 6, seed=2)]
    more = ["--share-port"] if arguments.servers > 1 else []
    process, port = start_server(arguments.bundle, 0, *more)
    servers = [process, *(start_server(arguments.bundle, port, *more)[0] for _ in range(arguments.servers - 1))]
    try:
        warm = Load(load.photos, 0.0)
        run_clients(warm, port, arguments.clients, 2)
        stalled = stall(port, load.photos[0])
        before = megabytes(servers)
        end = time.perf_counter() + arguments.seconds
        for number in range(arguments.slow + arguments.silent):
            threading.Thread(target=hold, args=(port, end, number < arguments.slow), daemon=True).start()
        seconds, processor = run_clients(load, port, arguments.clients, arguments.seconds)
        time.sleep(1)
        after = megabytes(servers)
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait(60)
    alone.append(in_process(bundle, load, arguments.seconds / 6, seed=3))
    ordered = sorted(load.seconds)
    results: dict[str, Any] = {
        "seconds": round(seconds, 1),
        "clients": arguments.clients,
        "bad uploads": arguments.bad,
        "slow and silent clients": [arguments.slow, arguments.silent],
        "servers": arguments.servers,
        "milliseconds of a small photo": stalled,
        "cores": os.cpu_count(),
        "requests": sum(load.statuses.values()),
        "statuses": {str(status): n for status, n in sorted(load.statuses.items(), key=str)},
        "5xx": sum(n for status, n in load.statuses.items() if isinstance(status, int) and status >= 500),
        "milliseconds of good uploads": {
            "p50": round(1000 * statistics.median(ordered), 1),
            "p99": round(1000 * ordered[int(0.99 * len(ordered))], 1),
        },
        "photos/s": {
            "server": round(load.tagged / seconds, 1),
            "in process, before and after": [round(rate, 1) for rate in alone],
            "ratio": round(load.tagged / seconds / statistics.mean(alone), 2),
        },
        "processor seconds of the clients, per second": round(processor / seconds, 2),
        "server MB": {"before": before["resident"], "peak": after["peak"], "after": after["resident"]},
    }
    print(json.dumps(results, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
