"""What every served page shares: strangers are refused, errors are problem details, and ports are said."""

import asyncio
import socket
from http import HTTPStatus
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.testclient import TestClient

from polytag.errors import MachineError, SettingsError
from polytag.serving.web.http import HEADERS, LARGEST_JSON, json_object, secure, serve


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    secure(app, "Photos.local")

    @app.get("/hello")
    def hello() -> str:
        return "hello"

    @app.post("/echo")
    def echo(body: Annotated[dict, Depends(json_object)]) -> dict:
        return body

    @app.get("/fail")
    def fail() -> None:
        raise RuntimeError("a secret")

    return app


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, "http://127.0.0.1:8001", raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("host", "fine"),
    [
        ("127.0.0.1:8001", True), ("localhost", True), ("LOCALHOST:8001", True), ("[::1]:8001", True),
        ("192.168.1.5:8001", True), ("photos.local:8001", True), ("evil.example", False),
        ("evil.example:8001", False), ("127.0.0.1.evil.example", False), ("localhost.evil.example", False),
        ("[::1", False), ("", False),
    ],
)  # fmt: skip
def test_only_names_that_nobody_can_take_are_answered(client: TestClient, host: str, fine: bool) -> None:
    answer = client.get("/hello", headers={"host": host})
    assert answer.status_code == (200 if fine else 421)
    assert fine or f"'{host.lower()}'" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("origin", "fine"),
    [
        ("http://127.0.0.1:8001", True), (None, True), ("http://127.0.0.1:8002", False),
        ("http://localhost:8001", False), ("https://evil.example", False), ("null", False), ("http://[", False),
    ],
)  # fmt: skip
def test_only_the_own_pages_change_anything(client: TestClient, origin: str | None, fine: bool) -> None:
    headers = {} if origin is None else {"origin": origin}
    assert client.post("/echo", json={}, headers=headers).status_code == (200 if fine else 403)
    assert client.get("/hello", headers=headers).status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_only_json_is_taken_for_json(client: TestClient, content_type: str) -> None:
    answer = client.post("/echo", content=b'{"a": 1}', headers={"content-type": content_type})
    assert answer.status_code == 415
    assert f"got {content_type or 'no type'}" in answer.json()["detail"]
    answer = client.post("/echo", content=b'{"a": 1}', headers={"content-type": "Application/JSON; charset=utf-8"})
    assert answer.json() == {"a": 1}


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"[0]", 422, "Expected a JSON object, got list"),
        (b"{", 400, "not valid JSON"),
        (b"\xff", 400, "not valid JSON"),
        (b"[" * 50_000, 400, "not valid JSON"),
        (b"", 400, "not valid JSON"),
        (b" " * (LARGEST_JSON + 1), 413, "larger than 65,536 bytes"),
    ],
)
def test_bad_bodies_are_refused(client: TestClient, body: bytes, status: int, detail: str) -> None:
    answer = client.post("/echo", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json() == {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status} | {
        "detail": answer.json()["detail"]
    }
    assert detail in answer.json()["detail"]


def test_a_body_without_a_length_is_stopped_at_the_limit() -> None:
    received = 0

    async def receive() -> dict[str, object]:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b" " * LARGEST_JSON, "more_body": received < 100}

    headers = [(b"content-type", b"application/json")]
    with pytest.raises(HTTPException) as refused:
        asyncio.run(json_object(Request({"type": "http", "method": "POST", "headers": headers}, receive)))
    assert refused.value.status_code == 413 and received == 2


def test_every_answer_carries_the_security_headers(client: TestClient) -> None:
    answers = [
        client.get("/hello"),
        client.get("/nothing"),
        client.get("/hello", headers={"host": "evil.example"}),
        client.get("/fail"),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 421, 500]
    for answer in answers:
        assert HEADERS.items() <= {name: answer.headers.get(name) for name in HEADERS}.items()
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    assert "secret" not in answers[-1].text
    assert answers[-1].headers["content-type"] == "application/problem+json"


def test_trouble_of_the_machine_is_a_503_without_details(app: FastAPI, client: TestClient) -> None:
    @app.get("/full")
    def full() -> None:
        raise MachineError("No space left on device (/secret): free some disk space")

    answer = client.get("/full")
    assert answer.status_code == 503 and answer.headers["retry-after"] == "60"
    assert "disk space" in answer.json()["detail"] and "secret" not in answer.text


def test_a_wrong_method_says_which_is_right(client: TestClient) -> None:
    answer = client.get("/echo")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_taken_port_and_an_unknown_host_are_said(app: FastAPI) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"Cannot listen on 127.0.0.1, port {port} .*. Choose another --port"):
            serve(app, "127.0.0.1", port, lambda url: None)
    for host, port in (("no.such.host.invalid", 0), ("127.0.0.1", 70_000)):
        with pytest.raises(SettingsError, match="Cannot listen"):
            serve(app, host, port, lambda url: None)
