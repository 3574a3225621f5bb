"""Review suspect labels and photos one at a time on a local web page. Every decision is saved immediately.

The server reads the decisions from the file for every request. Therefore, the file may be edited while the page is
open, and an interrupted review continues at the first undecided suspect.
"""

import io
import secrets
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from PIL import Image

from polytag.auditing.decisions import Decision, DecisionFile, Key
from polytag.data.dataset import Dataset
from polytag.errors import DataError, ImageError, MachineError, PolytagError, counted, listed, printable
from polytag.photos.decode import decode
from polytag.serving.web.http import Depends, FastAPI, HTTPException, Response, add_pages, json_object, secure, serve

LARGEST_SIDE = 1200
"""Maximum length of the longer side of a photo that is sent to the page, in pixels."""

ANSWERS = ("accept", "keep", "unknown", "present", "absent", "undo")
"""Actions available on the page."""


@dataclass(frozen=True)
class Suspect:
    """A photo, a label of a photo, or an entire label that a person should decide about.

    Attributes:
        image: name of the photo relative to the dataset's root; "" for an entire label.
        label: name of the label; "" for an entire photo.
        issue: kind of issue, in a few words.
        suggestion: decision about the same image and label, which is saved if the person accepts it; ``None`` if there
            is no suggestion.
        why: the finding that raised the issue, in one sentence.
        probability: probability of the label, 0 to 1; ``None`` if it was not predicted.
        other: name of the photo to compare with, or "".

    Raises:
        ValueError: the suggestion is about another image or label.
    """

    image: str
    label: str
    issue: str
    suggestion: Decision | None
    why: str
    probability: float | None = None
    other: str = ""

    def __post_init__(self) -> None:
        if self.suggestion is not None and self.suggestion.key != self.key:
            raise ValueError(f"a suspect about {self.key} cannot suggest a decision about {self.suggestion.key}")

    @property
    def key(self) -> Key:
        """Image and label that the decision is about. One decision settles all suspects with the same key."""
        return self.image, self.label


def review_app(
    dataset: Dataset,
    suspects: Sequence[Suspect],
    decisions_path: str | Path,
    data: str = "DATA",
    host: str = "127.0.0.1",
) -> FastAPI:
    """Build the app with the page and its API.

    Args:
        dataset: current photos and labels. The API serves only these photos.
        suspects: what to decide about, in the order of display.
        decisions_path: decisions file, created with the first decision.
        data: the DATA argument given by the user, repeated in the command on the last page.
        host: host name or address where the app is served.

    Raises:
        DataError: a suspect refers to a photo or label that is not in the dataset, or the decisions file is damaged.
    """
    review = _Review(dataset, suspects, decisions_path, data)
    app = FastAPI(title="polytag review", docs_url=None, redoc_url=None, openapi_url=None)
    secure(app, host)

    add_pages(app, {"/": "review.html", "/review.css": "review.css", "/review.js": "review.js"})

    @app.get("/api/review")
    def summary() -> dict[str, Any]:
        return review.summary()

    @app.get("/api/suspects/{index}")
    def suspect(index: int) -> dict[str, Any]:
        return review.describe(index)

    @app.get("/api/suspects/{index}/photos/{position}")
    def photo(index: int, position: int) -> Response:
        # Browsers may cache photos because the URLs change each time the server starts.
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(review.photo(index, position), media_type="image/jpeg", headers=headers)

    @app.post("/api/decisions")
    def decide(body: Annotated[dict[str, Any], Depends(json_object)]) -> dict[str, Any]:
        index, action = body.get("index"), body.get("action")
        if type(index) is not int:
            raise HTTPException(422, "index must be an integer.")
        if action not in ANSWERS:
            raise HTTPException(422, f"action must be one of {', '.join(ANSWERS)}.")
        review.decide(index, action)
        return review.summary(index)

    return app


def serve_review(
    dataset: Dataset,
    suspects: Sequence[Suspect],
    decisions_path: str | Path,
    data: str = "DATA",
    host: str = "127.0.0.1",
    port: int = 8001,
    on_ready: Callable[[str], object] = lambda url: None,
) -> None:
    """Serve the review until Ctrl-C is pressed, then print where the decisions are saved.

    There is no password. If ``host`` is not 127.0.0.1, everyone who can reach this machine can see the photos and save
    decisions.

    Args:
        dataset, suspects, decisions_path, data: see `review_app`.
        host: host name or address to listen on.
        port: port to listen on; 0 selects a free port.
        on_ready: called with the address of the page once the server accepts connections.

    Raises:
        DataError: see `review_app`.
        SettingsError: the server cannot listen on this host and port.
    """
    serve(review_app(dataset, suspects, decisions_path, data, host), host, port, on_ready)
    taken = Path(decisions_path).exists()
    saved = f"Decisions are saved in {printable(str(decisions_path))}"
    print(f"\n{saved}" if taken else "\nNo decisions were made, so no file was written")


class _Review:
    """The state and the operations behind the API."""

    def __init__(self, dataset: Dataset, suspects: Sequence[Suspect], decisions_path: str | Path, data: str) -> None:
        self.dataset, self.suspects = dataset, suspects
        self.file = DecisionFile(decisions_path)
        words = ["polytag", "audit", data, "--clean", "cleaned.csv", "--decisions", str(decisions_path)]
        self.command = [shlex.quote(word) for word in words]
        self.rows = {name: row for row, name in enumerate(dataset.names)}
        self.run = secrets.token_hex(4)
        self.before: dict[Key, Decision | None] = {}  # earlier decisions that this review has replaced
        self.deciding, self.decoding = threading.RLock(), threading.Lock()
        photos, labels = {"", *self.rows, *dataset.left_out}, {"", *dataset.labels}
        unknown = [name for s in suspects for name in (s.image, s.other) if name not in photos]
        unknown += [s.label for s in suspects if s.label not in labels]
        if unknown:
            raise DataError(f"these photos or labels of suspects are not in the data: {listed(unknown)}")
        self.file.read()

    def summary(self, index: int = -1) -> dict[str, Any]:
        """Describe the progress. ``next`` is the next undecided suspect after ``index``, wrapping around at the end."""
        decisions = self._decisions()
        open_ones = [i for i, suspect in enumerate(self.suspects) if not _by_review(decisions, suspect.key)]
        taken = [decisions[s.key].action for s in self.suspects if _by_review(decisions, s.key)]
        return {
            "count": len(self.suspects),
            "decided": len(self.suspects) - len(open_ones),
            "next": next((i for i in open_ones if i > index), open_ones[0] if open_ones else None),
            "taken": {action: taken.count(action) for action in sorted(set(taken))},
            "file": str(self.file.path),
            "command": self.command,
        }

    def describe(self, index: int) -> dict[str, Any]:
        """Describe everything that the page shows about one suspect."""
        suspect = self._suspect(index)
        decision = self._decisions().get(suspect.key)
        names = [name for name in (suspect.image, suspect.other) if name]
        photos = [
            {
                "name": name,
                "url": f"/api/suspects/{index}/photos/{i}?run={self.run}",
                **self._labels(name, suspect.label),
            }
            for i, name in enumerate(names)
        ]
        state = next((s for s in ("present", "absent", "unknown") if photos and suspect.label in photos[0][s]), None)
        return {
            **self.summary(index),
            "index": index,
            "issue": suspect.issue,
            "question": _question(suspect),
            "why": suspect.why,
            "label": suspect.label,
            "probability": suspect.probability,
            "photos": photos,
            "accept": suspect.suggestion and _words(suspect.suggestion),
            "keep": f"it stays {state}" if state else "no change",
            "unknown": bool(suspect.image),
            # Without these two answers, neither accepting nor keeping might be correct.
            "settle": state == "unknown" or (state is not None and suspect.suggestion is None),
            "decision": decision and {"action": decision.action, "words": _words(decision), "by": decision.by},
        }

    def photo(self, index: int, position: int) -> bytes:
        """Return a photo of a suspect as an upright JPEG with at most `LARGEST_SIDE` pixels on the longer side."""
        suspect = self._suspect(index)
        names = [name for name in (suspect.image, suspect.other) if name]
        if not 0 <= position < len(names):
            raise HTTPException(
                404, f"Suspect {index} has {counted(len(names), 'photo')}, so there is no photo {position}."
            )
        name = names[position]
        if name not in self.rows:
            raise HTTPException(404, f"This photo was left out: {self.dataset.left_out[name]}")
        try:
            with self.decoding:  # A large photo takes up to 240 MB, so only one photo is decoded at a time.
                image = Image.fromarray(decode(str(self.dataset.paths[self.rows[name]])))
                image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
        except ImageError as error:
            raise HTTPException(404, str(error)) from None
        file = io.BytesIO()
        image.save(file, "JPEG", quality=88)
        return file.getvalue()

    def decide(self, index: int, action: str) -> None:
        """Save the answer about a suspect, or undo an earlier answer."""
        suspect = self._suspect(index)
        answer = None if action == "undo" else _answer(suspect, action)
        with self.deciding:
            now = self._decisions().get(suspect.key)
            reviewed = now is not None and now.by == "review"
            if answer is None and not reviewed:
                raise HTTPException(409, "There is no decision to undo.")
            try:
                if answer is not None:
                    self.file.save(answer)
                    if not reviewed:
                        self.before[suspect.key] = now
                elif before := self.before.pop(suspect.key, None):
                    self.file.save(before)
                else:
                    self.file.remove(suspect.key)
            except MachineError:
                raise
            except PolytagError as error:
                raise HTTPException(500, str(error)) from None

    def _suspect(self, index: int) -> Suspect:
        if not 0 <= index < len(self.suspects):
            raise HTTPException(404, f"There is no suspect {index}. Suspects are 0 to {len(self.suspects) - 1}.")
        return self.suspects[index]

    def _decisions(self) -> Mapping[Key, Decision]:
        try:
            with self.deciding:
                return self.file.read()
        except DataError as error:
            raise HTTPException(500, str(error)) from None

    def _labels(self, name: str, asked: str) -> dict[str, list[str]]:
        """Return a photo's current labels by state. An absent label is included only if it is the one in question."""
        if name not in self.rows:
            return {"present": [], "unknown": [], "absent": []}
        named = list(zip(self.dataset.labels, self.dataset.targets[self.rows[name]], strict=True))
        return {
            "present": [label for label, value in named if value == 1],
            "unknown": [label for label, value in named if value == -1],
            "absent": [label for label, value in named if value == 0 and label == asked],
        }


def _by_review(decisions: Mapping[Key, Decision], key: Key) -> bool:
    return key in decisions and decisions[key].by == "review"


def _answer(suspect: Suspect, action: str) -> Decision:
    """Return the decision that an answer stands for."""
    if action == "accept":
        if suspect.suggestion is None:
            raise HTTPException(409, "There is no suggestion to accept. Choose another answer.")
        return replace(suspect.suggestion, by="review", reason=suspect.suggestion.reason or suspect.why)
    words = {"keep": "kept", "unknown": "cannot tell"}.get(action, f"reviewed as {action}")
    about = f"'{suspect.label}' {words}" if suspect.label else words
    try:
        return Decision(*suspect.key, action, f"{about} ({suspect.issue})", "review")
    except DataError as error:
        raise HTTPException(409, str(error)) from None


def _question(suspect: Suspect) -> str:
    action = suspect.suggestion.action if suspect.suggestion else None
    if action == "merge":
        assert suspect.suggestion is not None
        return f"Do “{suspect.label}” and “{suspect.suggestion.into}” mean the same thing?"
    if action == "drop":
        return "Leave this photo out?"
    if not suspect.label:
        return "Set all labels of this photo to unknown?" if action == "unknown" else "Is this photo OK?"
    if not suspect.image:
        return f"Is the label “{suspect.label}” OK?"
    return f"Does this photo show “{suspect.label}”?"


def _words(decision: Decision) -> str:
    """Describe a decision in words."""
    label = f"“{decision.label}”" if decision.label else "every label"
    return {
        "present": f"{label} is present",
        "absent": f"{label} is absent",
        "unknown": f"{label} is unknown",
        "drop": "leave the photo out",
        "merge": f"{label} becomes “{decision.into}”",
        "keep": "no change",
    }[decision.action]
