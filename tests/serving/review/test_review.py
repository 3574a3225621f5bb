"""The review's API: each answer is saved at once, and nobody gets at anything but the photos under review."""

import importlib
import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from polytag.auditing.apply import apply_decisions
from polytag.auditing.decisions import Decision, read_decisions, write_decisions
from polytag.data.dataset import Dataset
from polytag.errors import DataError, SettingsError
from polytag.serving.review.review import Suspect, review_app

LABELS = ("boat", "sea", "Sea")


@pytest.fixture
def data(tmp_path: Path, photos: Callable[..., list[str]]) -> Dataset:
    """Five photos: 0 to 2 are fine, 3 is text, 4 is on its side; another is listed but missing."""
    paths = photos(tmp_path / "photos", 4)
    Path(paths[3]).write_text("text")
    exif = Image.Exif()
    exif[0x0112] = 6
    # CMYK, wider than is sent, and to be turned by 90 degrees.
    Image.new("CMYK", (3000, 1000), (0, 255, 255, 0)).save(tmp_path / "photos" / "turned.jpg", exif=exif)
    paths.append(str(tmp_path / "photos" / "turned.jpg"))
    targets = np.array([[1, 0, 0], [1, -1, 0], [1, 0, 1], [0, 1, 0], [1, 1, 0]], dtype=np.int8)
    return Dataset(
        np.array(paths), targets, LABELS, np.arange(5), tmp_path / "photos", left_out={"gone.jpg": "no such file"}
    )


def suspect(image: str, label: str, action: str | None, into: str = "", **more: object) -> Suspect:
    suggestion = Decision(image, label, action, "the probe says so", into=into) if action else None
    return Suspect(image, label, "suspicious", suggestion, "why it is suspected", **more)  # type: ignore[arg-type]


SUSPECTS = [
    suspect("image0.jpg", "sea", "present", probability=0.97),
    suspect("image1.jpg", "sea", "unknown", other="image0.jpg"),
    suspect("image2.jpg", "", "drop"),
    suspect("", "Sea", "merge", into="sea"),
    suspect("image3.jpg", "sea", None),
    suspect("gone.jpg", "", "drop"),
    suspect("turned.jpg", "boat", "absent"),
]


@pytest.fixture
def decisions(tmp_path: Path) -> Path:
    return tmp_path / "decisions.csv"


@pytest.fixture
def client(data: Dataset, decisions: Path) -> TestClient:
    return TestClient(review_app(data, SUSPECTS, decisions, "my photos.csv"), "http://127.0.0.1:8001")


def decide(client: TestClient, index: object, action: object, status: int = 200) -> dict:
    answer = client.post("/api/decisions", json={"index": index, "action": action})
    assert answer.status_code == status, answer.text
    return answer.json()


# Deciding ------------------------------------------------------------------------------------------------------------


def test_each_answer_is_saved_at_once(client: TestClient, data: Dataset, decisions: Path) -> None:
    assert client.get("/api/review").json() == {
        "count": 7,
        "decided": 0,
        "next": 0,
        "taken": {},
        "file": str(decisions),
        "command": ["polytag", "audit", "'my photos.csv'", "--clean", "cleaned.csv", "--decisions", str(decisions)],
    }
    assert not decisions.exists()
    expected = []
    for index, action, decision in [
        (0, "accept", Decision("image0.jpg", "sea", "present", "the probe says so", "review")),
        (1, "absent", Decision("image1.jpg", "sea", "absent", "'sea' reviewed as absent (suspicious)", "review")),
        (2, "unknown", Decision("image2.jpg", "", "unknown", "cannot tell (suspicious)", "review")),
        (3, "accept", Decision("", "Sea", "merge", "the probe says so", "review", "sea")),
        (4, "present", Decision("image3.jpg", "sea", "present", "'sea' reviewed as present (suspicious)", "review")),
        (5, "accept", Decision("gone.jpg", "", "drop", "the probe says so", "review")),
        (6, "keep", Decision("turned.jpg", "boat", "keep", "'boat' kept (suspicious)", "review")),
    ]:
        progress = decide(client, index, action)
        expected.append(decision)
        assert read_decisions(decisions) == expected
        assert progress["decided"] == index + 1
        assert progress["next"] == (index + 1 if index < 6 else None)
    taken = {"absent": 1, "drop": 1, "keep": 1, "merge": 1, "present": 2, "unknown": 1}
    assert client.get("/api/review").json()["taken"] == taken
    cleaned, _ = apply_decisions(data, read_decisions(decisions))
    assert cleaned.targets.tolist() == [[1, 1], [1, 0], [-1, -1], [0, 1], [1, 1]]


def test_it_goes_on_where_it_was(client: TestClient, data: Dataset, decisions: Path) -> None:
    for index in (0, 1, 3):
        decide(client, index, "keep")
    again = TestClient(review_app(data, SUSPECTS, decisions), "http://127.0.0.1")
    assert again.get("/api/review").json()["next"] == 2
    shown = again.get("/api/suspects/1").json()
    assert shown["decision"] == {"action": "keep", "words": "no change", "by": "review"}
    assert (shown["next"], shown["decided"]) == (2, 3)
    # After the last the first that was passed over is next.
    assert decide(again, 6, "accept")["next"] == 2


def test_a_changed_mind_replaces_and_undo_restores_what_the_audit_decided(
    data: Dataset, decisions: Path, client: TestClient
) -> None:
    audited = [SUSPECTS[0].suggestion, SUSPECTS[2].suggestion]
    write_decisions(decisions, audited)  # type: ignore[arg-type]
    assert client.get("/api/suspects/0").json()["decision"]["by"] == "audit"
    assert client.get("/api/review").json()["next"] == 0
    assert "no decision to undo" in decide(client, 0, "undo", 409)["detail"]
    decide(client, 0, "keep")
    decide(client, 0, "unknown")
    assert [d.action for d in read_decisions(decisions)] == ["unknown", "drop"]
    assert decide(client, 0, "undo")["decided"] == 0
    assert read_decisions(decisions) == audited

    decide(client, 1, "accept")
    decide(client, 1, "undo")
    assert read_decisions(decisions) == audited
    # What an earlier start decided can be taken back too; what stood before is not known then.
    decide(client, 2, "keep")
    decide(TestClient(review_app(data, SUSPECTS, decisions), "http://127.0.0.1"), 2, "undo")
    assert read_decisions(decisions) == audited[:1]


def test_a_row_deleted_by_hand_is_undecided_again(client: TestClient, decisions: Path) -> None:
    for index in (0, 1, 2):
        decide(client, index, "accept")
    write_decisions(decisions, read_decisions(decisions)[1:])
    assert client.get("/api/review").json()["next"] == 0
    decide(client, 3, "keep")
    assert [d.image for d in read_decisions(decisions)] == ["image1.jpg", "image2.jpg", ""]


def test_a_file_damaged_by_hand_is_said_and_left_alone(client: TestClient, decisions: Path) -> None:
    decide(client, 0, "accept")
    damaged = decisions.read_text() + "half a row\n"
    decisions.write_text(damaged)
    assert "line 3: expected 6 cells, got 1" in decide(client, 1, "keep", 500)["detail"]
    assert "line 3" in client.get("/api/suspects/0").json()["detail"]
    assert decisions.read_text() == damaged


def test_a_file_that_cannot_be_written_is_said(data: Dataset, tmp_path: Path) -> None:
    client = TestClient(review_app(data, SUSPECTS, tmp_path / "no" / "decisions.csv"), "http://127.0.0.1")
    assert "cannot be written" in decide(client, 0, "keep", 500)["detail"]
    assert client.get("/api/review").json()["decided"] == 0


# What is shown -------------------------------------------------------------------------------------------------------


def test_a_suspect_comes_with_its_labels_and_words(client: TestClient) -> None:
    shown = client.get("/api/suspects/0").json()
    (photo,) = shown.pop("photos")
    assert photo.pop("url").startswith("/api/suspects/0/photos/0?run=")
    assert photo == {"name": "image0.jpg", "present": ["boat"], "unknown": [], "absent": ["sea"]}
    assert shown["question"] == "Does this photo show “sea”?"
    assert shown["accept"] == "“sea” is present"
    assert shown["keep"] == "it stays absent"
    assert shown["probability"] == 0.97
    assert shown["settle"] is False

    shown = client.get("/api/suspects/1").json()
    assert [(p["name"], p["unknown"], p["absent"]) for p in shown["photos"]] == [
        ("image1.jpg", ["sea"], []),
        ("image0.jpg", [], ["sea"]),
    ]
    assert shown["settle"] is True

    shown = client.get("/api/suspects/3").json()
    assert (shown["question"], shown["photos"], shown["unknown"]) == (
        "Do “Sea” and “sea” mean the same thing?",
        [],
        False,
    )
    assert client.get("/api/suspects/2").json()["question"] == "Leave this photo out?"
    shown = client.get("/api/suspects/4").json()
    assert (shown["accept"], shown["settle"]) == (None, True)


def test_photos_come_upright_small_and_as_jpeg(client: TestClient) -> None:
    answer = client.get("/api/suspects/6/photos/0")
    assert answer.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (400, 1200))
        assert np.abs(np.asarray(image, int) - (255, 0, 0)).max() < 12
    pairs = [client.get(f"/api/suspects/1/photos/{i}").content for i in (0, 1)]
    assert pairs[0] != pairs[1] == client.get("/api/suspects/0/photos/0").content


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/api/suspects/4/photos/0", 404, "not an image (expected JPEG"),
        ("/api/suspects/5/photos/0", 404, "This photo was left out: no such file"),
        ("/api/suspects/3/photos/0", 404, "Suspect 3 has 0 photos"),
        ("/api/suspects/0/photos/1", 404, "Suspect 0 has 1 photo, so there is no photo 1"),
        ("/api/suspects/0/photos/-1", 404, "there is no photo -1"),
        ("/api/suspects/7", 404, "There is no suspect 7. Suspects are 0 to 6"),
        ("/api/suspects/-1", 404, "There is no suspect -1"),
        ("/api/suspects/99999999999999999999999", 404, "There is no suspect 9999"),
        ("/api/suspects/first", 422, "path.index: Input should be a valid integer"),
        ("/api/suspects/..%2f..%2fetc%2fpasswd/photos/0", 404, "Not Found"),
        ("/photos/image0.jpg", 404, "Not Found"),
        ("/docs", 404, "Not Found"),
        ("/api/decisions", 405, "Method Not Allowed"),
    ],
)
def test_what_is_not_there_is_said_as_problem_details(client: TestClient, path: str, status: int, detail: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status
    assert detail in answer.json()["detail"]


# Who may ask ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b'{"index": 0, "action": "delete"}', 422, "action must be one of accept, keep"),
        (b'{"index": 0, "action": ["keep"]}', 422, "action must be one of"),
        (b'{"index": "0", "action": "keep"}', 422, "index must be an integer"),
        (b'{"index": true, "action": "keep"}', 422, "index must be an integer"),
        (b'{"action": "keep"}', 422, "index must be an integer"),
        (b'{"index": 7, "action": "keep"}', 404, "There is no suspect 7"),
        (b'{"index": 4, "action": "accept"}', 409, "There is no suggestion to accept"),
        (b'{"index": 3, "action": "unknown"}', 409, "'unknown' needs the column image"),
        (b'{"index": 2, "action": "present"}', 409, "'present' needs the column label"),
    ],
)  # fmt: skip
def test_bad_bodies_are_refused(client: TestClient, body: bytes, status: int, detail: str, decisions: Path) -> None:
    answer = client.post("/api/decisions", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert detail in answer.json()["detail"]
    assert not decisions.exists()


def test_only_the_own_page_decides(client: TestClient, decisions: Path) -> None:
    keep = b'{"index": 0, "action": "keep"}'
    json = {"content-type": "application/json"}
    for headers, status in [
        ({"content-type": "text/plain"}, 415),
        (json | {"origin": "http://127.0.0.1:8002"}, 403),
        (json | {"host": "evil.example"}, 421),
    ]:
        assert client.post("/api/decisions", content=keep, headers=headers).status_code == status
    assert client.get("/api/suspects/0/photos/0", headers={"host": "evil.example"}).status_code == 421
    assert not decisions.exists()
    headers = json | {"origin": "http://127.0.0.1:8001"}
    assert client.post("/api/decisions", content=keep, headers=headers).status_code == 200


def test_only_photos_may_be_kept_by_the_browser(client: TestClient) -> None:
    for path in ("/", "/review.js", "/api/review", "/api/suspects/4/photos/0", "/nothing"):
        answer = client.get(path)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'self'; ")
    assert client.get("/api/suspects/0/photos/0").headers["cache-control"] == "private, max-age=3600"


def test_the_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    for path in ("/", "/review.css", "/review.js"):
        text = client.get(path).text
        assert "http:" not in text
        assert "https:" not in text
        assert "innerHTML" not in text
    assert "<style" not in client.get("/").text
    assert " style=" not in client.get("/").text


# Starting and ending -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [suspect("none.jpg", "", "drop"), suspect("image0.jpg", "lake", "present"),
     replace(SUSPECTS[0], other="../../etc/passwd")],
)  # fmt: skip
def test_suspects_must_be_of_the_data(data: Dataset, decisions: Path, wrong: Suspect) -> None:
    with pytest.raises(DataError, match=r"not in the data: (none\.jpg|lake|\.\./\.\./etc/passwd)"):
        review_app(data, [*SUSPECTS, wrong], decisions)


def test_a_suggestion_is_about_its_suspect() -> None:
    with pytest.raises(ValueError, match="cannot suggest a decision about"):
        Suspect("image0.jpg", "sea", "", Decision("image0.jpg", "", "drop", ""), "")


def test_a_damaged_file_is_refused_at_the_start(data: Dataset, decisions: Path) -> None:
    decisions.write_text("image\n")
    with pytest.raises(DataError, match="needs the columns"):
        review_app(data, SUSPECTS, decisions)


def test_nothing_to_review_is_fine(data: Dataset, decisions: Path) -> None:
    client = TestClient(review_app(data, [], decisions), "http://127.0.0.1")
    assert client.get("/api/review").json()["next"] is None


SERVER = """
import sys
from pathlib import Path
import httpx, numpy as np, os, signal, threading
from polytag.data.dataset import Dataset
from polytag.serving.review.review import Suspect, serve_review
root = Path(sys.argv[1])
data = Dataset(np.array([str(root / "a.jpg")]), np.array([[1]], np.int8), ("sea",), np.arange(1), root)
def use(url):
    def work():
        print(url, httpx.post(url + "api/decisions", json={"index": 0, "action": "keep"}).status_code, flush=True)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=work).start()
serve_review(data, [Suspect("a.jpg", "sea", "odd", None, "")], root / "decisions.csv", port=0, on_ready=use)
print("over")
"""


def test_ctrl_c_ends_it_and_says_where_the_decisions_are(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", SERVER, tmp_path], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    first, *rest = run.stdout.splitlines()
    assert first.startswith("http://127.0.0.1:")
    assert first.endswith("/ 200")
    assert rest == ["", f"Decisions are saved in {tmp_path / 'decisions.csv'}", "over"]
    assert [d.action for d in read_decisions(tmp_path / "decisions.csv")] == ["keep"]


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "polytag.serving.web.http")
    with pytest.raises(SettingsError, match=r"needs FastAPI and Uvicorn\. Install polytag again to get them\.$"):
        importlib.import_module("polytag.serving.web.http")
