"""The tagging API: what it answers, to whom, and that nothing that is sent brings it down."""

import base64
import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from odd_uploads import BAD, ODD_BUT_FINE, noise, photo
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient
from typer.testing import CliRunner

from polytag.cli import app as command_line
from polytag.errors import SettingsError
from polytag.models.bundle.bundle import Bundle
from polytag.serving.server import server, service
from polytag.serving.server.server import tagging_app
from polytag.serving.server.uploads import Limits, Room
from until import until

Client = Callable[..., TestClient]


@pytest.fixture
def client_of(colours: Bundle, farben: Bundle) -> Iterator[Client]:
    """``client_of(…)`` starts an app of two models with these settings."""
    clients = []

    def start(**settings: Any) -> TestClient:
        app = tagging_app({"colours": colours, "farben": farben}, **settings)
        client = TestClient(app, "http://127.0.0.1:8000", raise_server_exceptions=False)
        clients.append(client.__enter__())
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(client_of: Client) -> TestClient:
    return client_of()


def form(*photos: bytes) -> dict[str, Any]:
    return {"files": [("image", (f"{i}.jpg", content)) for i, content in enumerate(photos)]}


def refused(answer: Any, status: int, words: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem = answer.json()
    assert problem.keys() == {"type", "title", "status", "detail"}
    assert (problem["type"], problem["status"]) == ("about:blank", status)
    assert words in problem["detail"]
    assert "\n" not in problem["detail"]


def decided(answer: Any) -> list[set[str]]:
    """The labels that each photo is given."""
    assert answer.status_code == 200, answer.text
    return [{label["label"] for label in found["labels"] if label["decision"]} for found in answer.json()["images"]]


# Tagging -------------------------------------------------------------------------------------------------------------


def test_one_photo_as_it_is(client: TestClient, colours: Bundle) -> None:
    answer = client.post("/v1/tag", content=photo((250, 10, 160)))
    ((probabilities,),) = [colours.probabilities([photo((250, 10, 160))])]
    assert answer.json() == {
        "model": "colours",
        "images": [
            {
                "image": "image",
                "labels": [
                    {
                        "label": label,
                        "probability": float(probability),
                        "threshold": float(np.float32(threshold)),
                        "decision": decision,
                    }
                    for label, probability, threshold, decision in zip(
                        ("red", "green", "blue"), probabilities, (0.5, 0.6, 0.7), (True, False, True), strict=True
                    )
                ],
            }
        ],
    }


def test_many_photos_of_many_clients_get_what_predict_gives(
    client: TestClient, colours: Bundle, tmp_path: Path
) -> None:
    contents = [noise(seed) for seed in range(60)]
    paths = [tmp_path / f"{i}.png" for i in range(60)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    expected, _ = colours.predict([str(path) for path in paths])

    def send(start: int) -> list[list[float]]:
        answer = client.post("/v1/tag", **form(*contents[start : start + 5])).json()
        assert [found["image"] for found in answer["images"]] == [f"{i}.jpg" for i in range(5)]
        return [[label["probability"] for label in found["labels"]] for found in answer["images"]]

    with ThreadPoolExecutor(6) as pool:
        found = [row for rows in pool.map(send, range(0, 60, 5)) for row in rows]
    assert np.array_equal(np.array(found, dtype=np.float32), expected)


@pytest.mark.parametrize("content_type", ["image/jpeg", "text/html", "application/json", "nonsense", ""])
def test_the_content_decides_and_not_its_type(client: TestClient, content_type: str) -> None:
    assert decided(client.post("/v1/tag", content=photo(), headers={"content-type": content_type})) == [{"red"}]


@pytest.mark.parametrize("kind", ODD_BUT_FINE)
def test_unusual_photos_are_tagged(client: TestClient, kind: str) -> None:
    answer = client.post("/v1/tag", content=ODD_BUT_FINE[kind])
    assert answer.status_code == 200
    if kind in ("HEIC", "AVIF"):
        assert decided(answer) == [{"red"}]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "ü" * 300, "日本.jpg", "<img src=x>.jpg", "a;b='c'.jpg", "x" * 300]
)
def test_names_come_back_and_mean_nothing(client: TestClient, name: str) -> None:
    answer = client.post("/v1/tag", files=[("any field", (name, photo(), "application/x-php"))])
    assert [found["image"] for found in answer.json()["images"]] == [name]
    assert decided(answer) == [{"red"}]


def test_a_part_needs_neither_file_name_nor_field_name(client: TestClient) -> None:
    body = b'--b\r\n\r\n%b\r\n--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n%b\r\n--b--\r\nand more' % (
        photo(),
        photo((0, 250, 0)),
    )
    answer = client.post("/v1/tag", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert [found["image"] for found in answer.json()["images"]] == ["image", "x"]
    assert decided(answer) == [{"red"}, {"green"}]


def test_models_side_by_side(client: TestClient) -> None:
    assert decided(client.post("/v1/tag?model=farben", content=photo())) == [{"rot"}]
    assert decided(client.post("/v1/tag", content=photo())) == [{"red"}]
    first, second = client.get("/v1/model").json(), client.get("/v1/model?model=farben").json()
    assert first == {
        "name": "colours",
        "labels": ["red", "green", "blue"],
        "thresholds": pytest.approx([0.5, 0.6, 0.7]),
        "image_size": 16,
        "approach": "transfer",
        "backbone": "none",
        "trained_on": 120,
        "test": {"samples_f1": 0.9},
        "models": ["colours", "farben"],
    }
    assert (second["name"], second["labels"]) == ("farben", ["rot", "grün", "blau"])
    refused(client.get("/v1/model?model=none"), 404, "There is no model 'none'. Choose from colours, farben")
    refused(client.post("/v1/tag?model=../x", content=photo()), 404, "Choose from colours, farben")


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_photo_alone(client: TestClient, kind: str) -> None:
    content, status, words = BAD[kind]
    refused(client.post("/v1/tag", content=content, headers={"content-type": "image/jpeg"}), status, words)
    refused(client.post("/v1/tag", **form(content)), status, words)
    assert decided(client.post("/v1/tag", content=photo())) == [{"red"}]


def test_bad_photos_among_good_ones_are_told_in_their_place(client: TestClient) -> None:
    bad = list(BAD.values())
    answer = client.post("/v1/tag", **form(photo(), *(content for content, *_ in bad), photo((0, 0, 250))))
    assert answer.status_code == 200
    first, *between, last = answer.json()["images"]
    assert (first["labels"][0]["decision"], last["labels"][2]["decision"]) == (True, True)
    for found, (_, status, words) in zip(between, bad, strict=True):
        assert found.keys() == {"image", "error"}
        assert found["error"]["status"] == status
        assert words in found["error"]["detail"]


def test_bad_photos_alone_are_an_error(client: TestClient) -> None:
    refused(
        client.post("/v1/tag", **form(b"a", b"b")),
        415,
        "None of the 2 photos can be read. The first error is: not an image",
    )


MULTIPART = {"content-type": "multipart/form-data; boundary=b"}
PART = b'--b\r\nContent-Disposition: form-data; name="a"; filename="a.jpg"\r\n\r\n%b\r\n'


@pytest.mark.parametrize(
    ("body", "content_type", "status", "words"),
    [
        (PART % b"x" + b"--b--", "multipart/form-data", 400, "no usable boundary"),
        (PART % b"x" + b"--b--", "multipart/form-data; boundary=" + "b" * 1000, 400, "no usable boundary"),
        (PART % photo(), None, 400, "ends before its last boundary"),
        (PART % photo() + b"--b", None, 400, "ends before its last boundary"),
        (b"--b\r\nno header\r\n\r\nx\r\n--b--", None, 400, "form is damaged"),
        (b"--b\r\n" + b"a" * 10_000 + b": b\r\n\r\nx\r\n--b--", None, 400, "form is damaged"),
        (photo(), None, 400, "form is damaged"),
        (b"", None, 400, "ends before its last boundary"),
        (b"--b--\r\n", None, 422, "contains no photo"),
        (PART % b"x" * 1000 + b"--b--", None, 422, "more than 64 parts"),
        (b'{"photo": "/etc/passwd"}', "application/json", 415, "not an image"),
        (b"url=http://127.0.0.1/x.jpg", "application/x-www-form-urlencoded", 415, "not an image"),
    ],
)
def test_bodies_that_are_none(
    client: TestClient, body: bytes, content_type: str | None, status: int, words: str, capfd: Any
) -> None:
    headers = MULTIPART if content_type is None else {"content-type": content_type}
    refused(client.post("/v1/tag", content=body, headers=headers), status, words)
    assert capfd.readouterr() == ("", "")
    assert decided(client.post("/v1/tag", content=photo())) == [{"red"}]


def test_a_body_is_stopped_at_the_limit(client_of: Client) -> None:
    client = client_of(limits=Limits(body_bytes=100_000))
    refused(client.post("/v1/tag", content=bytes(100_001)), 413, "larger than 0.1 MB")

    for headers, start in (({}, b""), (MULTIPART, PART[:-2] % b"x")):
        chunks = iter([start, *[bytes(10_000)] * 11])  # without a length
        refused(client.post("/v1/tag", content=chunks, headers=headers), 413, "larger than 0.1 MB")
    assert decided(client.post("/v1/tag", content=photo())) == [{"red"}]


def test_a_key_is_asked_before_the_body_is_read(client_of: Client) -> None:
    client = client_of(api_key="secret", limits=Limits(body_bytes=1000))
    refused(client.post("/v1/tag", content=bytes(5000)), 401, "The API key is missing")


# Too much at once ----------------------------------------------------------------------------------------------------


@pytest.fixture
def stuck(colours: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The model waits until this event is set, on both of two threads."""
    event = threading.Event()
    monkeypatch.setattr(Bundle, "threads", 2)
    model = colours.run
    monkeypatch.setitem(colours.__dict__, "run", lambda batch: event.wait(20) and model(batch))
    yield event
    event.set()


def waiting(client: TestClient) -> float:
    line = next(line for line in client.get("/metrics").text.splitlines() if line.startswith("polytag_waiting_photos"))
    return float(line.split()[1])


def test_a_full_queue_is_said_and_what_was_taken_is_finished(client_of: Client, stuck: threading.Event) -> None:
    client = client_of(limits=Limits(waiting_photos=4))
    with ThreadPoolExecutor(20) as pool:
        taken = [pool.submit(client.post, "/v1/tag", content=photo()) for _ in range(20)]
        until(lambda: waiting(client) == 4 and sum(request.done() for request in taken) >= 2)
        answer = client.post("/v1/tag", content=photo())
        refused(answer, 503, "The queue is full")
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/healthz").json() == {"status": "ok"}
        refused(client.get("/readyz"), 503, "The queue is full")
        refused(client.post("/v1/tag", **form(*[photo()] * 5)), 503, "The queue is full")
        stuck.set()
        answers = [request.result() for request in taken]
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(200) >= 5 and set(statuses) == {200, 503}
    assert client.get("/readyz").json() == {"status": "ok"}
    assert decided(client.post("/v1/tag", content=photo())) == [{"red"}]


def test_an_answer_that_takes_too_long_is_given_up(client_of: Client, stuck: threading.Event) -> None:
    client = client_of(limits=Limits(answer_seconds=1))
    answer = client.post("/v1/tag", content=photo())
    refused(answer, 503, "Tagging took longer than 1 seconds")
    assert "retry-after" in answer.headers
    stuck.set()
    assert decided(client.post("/v1/tag", content=photo())) == [{"red"}]


def test_bodies_that_are_under_way_share_a_room(client_of: Client) -> None:
    client = client_of(limits=Limits(held_bytes=1000))
    content = photo()
    assert len(content) < 1000 < 2 * len(content)
    for _ in range(3):
        assert decided(client.post("/v1/tag", content=content)) == [{"red"}]
        answer = client.post("/v1/tag", content=bytes(1001))
        refused(answer, 503, "Too many uploads at the same time")
        assert "retry-after" in answer.headers


def test_a_room_is_shared_and_given_back() -> None:
    room = Room(1000)
    for _ in range(2):
        with room.share() as one, room.share() as other:
            one(600)
            with pytest.raises(HTTPException) as refused:
                other(600)
            assert refused.value.status_code == 503
            other(400)


def test_a_failure_of_the_model_is_told_without_its_reasons(
    client: TestClient, colours: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(colours.__dict__, "run", lambda batch: 1 / 0)
        answer = client.post("/v1/tag", content=photo())
        refused(answer, 500, "Internal error")
        assert "division" not in answer.text
        assert 'polytag_requests_total{route="/v1/tag",status="500"} 1.0' in client.get("/metrics").text
    assert decided(client.post("/v1/tag", content=photo())) == [{"red"}]


def test_photos_of_a_client_that_left_are_not_tagged(
    served: Callable[[Any], str], colours: Bundle, stuck: threading.Event
) -> None:
    address = urlsplit(served(tagging_app({"colours": colours})))
    connection = HTTPConnection(address.hostname, address.port, timeout=20)
    parts = b"".join(b"--b\r\n\r\n%b\r\n" % photo() for _ in range(40)) + b"--b--\r\n"
    connection.request("POST", "/v1/tag", parts, {"Content-Type": "multipart/form-data; boundary=b"})

    def text() -> str:
        other = HTTPConnection(address.hostname, address.port, timeout=20)
        other.request("GET", "/metrics")
        return other.getresponse().read().decode()

    until(lambda: "polytag_batch_photos_count 2.0" in text())  # both threads are busy
    assert "polytag_waiting_photos 0.0" not in text()
    connection.close()
    until(lambda: 'status="400"' in text())
    stuck.set()
    until(lambda: "polytag_waiting_photos 0.0" in text())
    assert "polytag_batch_photos_count 2.0" in text()


def test_large_photos_wait_for_each_other_and_not_others_for_them(
    client: TestClient, colours: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LARGE_PIXELS", 2000)
    event, decoded = threading.Event(), colours.run
    monkeypatch.setitem(
        colours.__dict__, "run", lambda batch: (batch.mean() < 250 or event.wait(20)) and decoded(batch)
    )
    file = io.BytesIO()
    Image.new("RGB", (60, 60), "white").save(file, "PNG")
    with ThreadPoolExecutor(1) as pool:
        large = pool.submit(client.post, "/v1/tag", **form(*[file.getvalue()] * 20))
        until(lambda: waiting(client) == 19)
        for _ in range(5):
            assert decided(client.post("/v1/tag", content=photo())) == [{"red"}]
        answer = client.post("/v1/tag", **form(*[file.getvalue()] * 60))
        event.set()
        assert len(large.result().json()["images"]) == 20
    refused(answer, 503, "The queue is full")


# Who may ask ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/model", "/metrics"])
def test_keys(client_of: Client, path: str) -> None:
    client = client_of(api_key="se-cret")
    refused(
        client.get(path), 401, "The API key is missing. Send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'."
    )
    for wrong in ("se-cre", "se-cretx", "SE-CRET", "", "schlüssel"):
        assert client.get(path, headers={b"X-API-Key": wrong.encode()}).status_code == 401, wrong
    refused(client.get(path, headers={"Authorization": "Bearer no"}), 401, "The API key is wrong")
    refused(client.get(path, headers={"Authorization": "Basic se-cret"}), 401, "The API key is missing")
    answer = client.get(path, headers={"Authorization": "Bearer no", "X-API-Key": "se-cret"})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    for header in ({"Authorization": "Bearer se-cret"}, {"X-API-Key": "se-cret"}):
        assert client.get(path, headers=header).status_code == 200
    assert client.post("/v1/tag", content=photo(), headers={"X-API-Key": "se-cret"}).status_code == 200


def test_what_needs_no_key(client_of: Client) -> None:
    client = client_of(api_key="secret")
    own = ("/", "/tag.css", "/tag.js", "/requests.js", "/heat.js", "/csv.js")
    for path in (*own, "/docs", "/docs.css", "/openapi.json", "/healthz"):
        assert client.get(path).status_code == 200, path


@pytest.mark.parametrize("key", ["", " ", "two words", "schlüssel", "a\n"])
def test_keys_that_no_header_can_carry(colours: Bundle, key: str) -> None:
    with pytest.raises(SettingsError, match="an API key must be"):
        tagging_app({"colours": colours}, key)


def test_without_a_key_only_own_names_and_own_pages_are_answered(client_of: Client) -> None:
    client = client_of(host="Photos.local")
    for host, status in (("photos.local:8000", 200), ("192.168.1.7", 200), ("evil.example", 421)):
        assert client.get("/healthz", headers={"host": host}).status_code == status
    refused(
        client.post("/v1/tag", content=photo(), headers={"origin": "https://evil.example"}),
        403,
        "pages on https://evil.example",
    )
    guarded = client_of(api_key="secret")
    headers = {"host": "photos.example.org", "X-API-Key": "secret"}
    assert guarded.get("/v1/model", headers=headers).status_code == 200
    own = {**headers, "origin": "https://photos.example.org"}
    assert guarded.post("/v1/tag", content=photo(), headers=own).status_code == 200
    foreign = {**headers, "origin": "https://evil.example"}
    assert guarded.post("/v1/tag", content=photo(), headers=foreign).status_code == 403


# Explaining ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What a stand-in for the explainer was asked."""
    asked: list[tuple[str, ...]] = []

    class Explainer:
        def __init__(self, bundle: Bundle) -> None:
            if "rot" in bundle.labels:
                raise SettingsError("farben has no gradients")
            self.size = bundle.image_size

        def heat(self, photo: np.ndarray, labels: list[str]) -> np.ndarray:
            asked.append(tuple(labels))
            assert (photo.shape, photo.dtype) == ((self.size, self.size, 3), np.uint8)
            return np.linspace(0, 1, len(labels) * self.size**2, dtype=np.float32).reshape(-1, self.size, self.size)

    monkeypatch.setattr(service, "explainer_of", Explainer)
    return asked


def heatmaps(found: dict[str, Any]) -> dict[str, np.ndarray]:
    return {
        label["label"]: np.asarray(Image.open(io.BytesIO(base64.b64decode(label["heatmap"]))))
        for label in found["labels"]
        if "heatmap" in label
    }


def test_explanations_are_made_for_what_is_asked(client: TestClient, explained: list[tuple[str, ...]]) -> None:
    client.post("/v1/tag", content=photo())
    assert explained == []
    answer = client.post("/v1/tag?explain=blue&explain=red", content=photo()).json()
    maps = heatmaps(answer["images"][0])
    assert maps.keys() == {"red", "blue"}
    for heat in maps.values():
        assert (heat.shape, heat.dtype) == ((16, 16), np.uint8)
    assert (maps["red"].min(), maps["blue"].max()) == (0, 255)
    answer = client.post("/v1/tag?explain=*", **form(photo((250, 0, 250)), b"text", photo((0, 0, 0)))).json()
    assert heatmaps(answer["images"][0]).keys() == {"red", "blue"}
    assert "error" in answer["images"][1]
    assert heatmaps(answer["images"][2]) == {}
    assert explained == [("red", "blue"), ("red", "blue")]


def test_explanations_that_cannot_be_made(client_of: Client, explained: list[tuple[str, ...]]) -> None:
    client = client_of(limits=Limits(waiting_explanations=2))
    refused(
        client.post("/v1/tag?explain=cat", content=photo()),
        422,
        "explain: colours has no label cat. Its labels are red, green",
    )
    refused(client.post("/v1/tag?model=farben&explain=rot", content=photo()), 422, "farben has no gradients")
    refused(client.post("/v1/tag?explain=red", **form(*[photo()] * 3)), 422, "limited to 2 photos per request")
    refused(client.post("/v1/tag?explain=red", content=b"text"), 415, "not an image")
    assert explained == []


# What is said about the server ---------------------------------------------------------------------------------------


def test_metrics_count_requests_and_photos(client: TestClient) -> None:
    client.post("/v1/tag", **form(photo(), photo(), b"text"))
    client.post("/v1/tag", content=b"text")
    client.get("/v1/tag")
    client.get("/a/b/c")
    text = client.get("/metrics").text
    for line in (
        'polytag_requests_total{route="/v1/tag",status="200"} 1.0',
        'polytag_requests_total{route="/v1/tag",status="415"} 1.0',
        'polytag_requests_total{route="other",status="404"} 1.0',
        'polytag_photos_total{outcome="tagged"} 2.0',
        'polytag_photos_total{outcome="unreadable"} 2.0',
        "polytag_batch_photos_sum 4.0",
        "polytag_waiting_photos 0.0",
    ):
        assert line in text, text
    assert "/a/b/c" not in text


def test_the_documentation_is_whole_and_needs_nothing_from_elsewhere(client_of: Client) -> None:
    answer = client_of(api_key="secret").get("/docs")
    for words in ("POST /v1/tag", "GET /v1/model", "/healthz", "/metrics", "explain", "503", "LabelAnswer", "grün"):
        assert words in answer.text, words
    addresses = [part.split('"')[0] for part in answer.text.split('href="')[1:]] + answer.text.split('src="')[1:]
    assert addresses and all(address.startswith(("/", "#")) for address in addresses)
    assert "style=" not in answer.text and "<script" not in answer.text
    assert "X-API-Key: KEY" in answer.text and "X-API-Key" not in client_of().get("/docs").text
    for name in {address[1:] for address in addresses if address.startswith("#")}:
        assert f'id="{name}"' in answer.text


def test_pages_may_show_photos_that_they_hold(client: TestClient) -> None:
    scripts = [(f"/{name}.js", "text/javascript") for name in ("tag", "requests", "heat", "csv")]
    for path, kind in (("/", "text/html"), ("/tag.css", "text/css"), *scripts):
        answer = client.get(path)
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        assert "img-src 'self' blob: data:" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "img-src" not in client.get("/healthz").headers["content-security-policy"]


def test_serving_imports_neither_keras_nor_tensorflow(colours: Bundle, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(photo())
    code = (
        "import sys, polytag as pt; from polytag.serving.server.server import tagging_app; "
        "from starlette.testclient import TestClient; from pathlib import Path; "
        "client = TestClient(tagging_app({'m': pt.Bundle(sys.argv[1])}), 'http://127.0.0.1'); "
        "assert client.post('/v1/tag', content=Path(sys.argv[2]).read_bytes()).status_code == 200; "
        "assert not {'keras', 'tensorflow'} & sys.modules.keys()"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(colours.path), str(tmp_path / "photo.jpg")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_empty_key_opens_no_server(colours: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "serve", lambda *_, **__: None)
    monkeypatch.setenv("POLYTAG_API_KEY", "")  # as $(cat key.txt) gives it where there is no such file
    done = CliRunner().invoke(command_line, ["serve", str(colours.path), "--port", "0"])
    assert done.exit_code == 2 and "an API key must be" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bundle", "x"], "--bundle needs NAME=PATH"),
        (["--bundle", "=x"], "--bundle needs NAME=PATH"),
        (["--bundle", "colours=x"], "two bundles are called 'colours'"),
        (["--bundle", "x=nowhere"], "nowhere is not a bundle"),
        (["--api-key", "two words"], "an API key must be"),
        (["--host", "no.such.host.invalid"], "Cannot listen on no.such.host.invalid"),
    ],
)
def test_the_command_refuses_in_one_line(colours: Bundle, arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(command_line, ["serve", str(colours.path), "--port", "0", *arguments])
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("polytag: ") and words in line
