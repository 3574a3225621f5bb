"""The tagging page in a real browser, on a server that answers at once and always the same."""

import asyncio
import base64
import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from polytag.errors import ImageError
from polytag.models.bundle.bundle import Bundle
from polytag.photos.decode import decode
from polytag.serving.server.server import tagging_app
from polytag.serving.web.http import HEADERS, FastAPI, Request, Response, problem, secure

pytest.importorskip("playwright", reason="browser tests need Playwright: pip install playwright")
if shutil.which("chromium") is None:
    pytest.skip("browser tests need Chromium: apt-get install chromium", allow_module_level=True)

HOSTILE = "<img src=x onerror=alert(1)>"
LABELS = ["boat", HOSTILE, "a label of many words, said slowly", "dog", "cat", "bus", "car", "person"]
PROBABILITIES = [0.9, 0.62, 0.45, 0.3, 0.2, 0.1, 0.05, 0.001]
THRESHOLDS = [0.5, 0.7, 0.4, 0.5, 0.5, 0.5, 0.5, 0.0005]
GIVEN = ["boat", "a label of many words, said slowly", "person"]
KEY = "right"
PAGE_HEADERS = {"Content-Security-Policy": f"{HEADERS['Content-Security-Policy']}; img-src 'self' blob: data:"}


class Fake:
    """The tagging server's API with made-up answers; tests read what it was asked, and set what it answers."""

    def __init__(self) -> None:
        self.queries: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.open = self.most_open = 0
        self.key: str | None = None
        self.busy = 0
        self.models = ["first"]
        self.app = FastAPI()
        secure(self.app, "127.0.0.1")
        self.app.get("/")(self.file("/", "html"))
        self.app.get("/tag.css")(self.file("/tag.css", "css"))
        for script in ("/tag.js", "/requests.js", "/heat.js", "/csv.js"):
            self.app.get(script)(self.file(script, "javascript"))
        self.app.get("/favicon.ico")(lambda: Response(status_code=204))
        self.app.get("/v1/model")(self.model)
        self.app.post("/v1/tag")(self.tag)

    def file(self, path: str, kind: str) -> Callable[[], Response]:
        content = (resources.files("polytag.serving") / "web" / (path[1:] or "tag.html")).read_bytes()
        return lambda: Response(content, media_type=f"text/{kind}; charset=utf-8", headers=PAGE_HEADERS)

    def refuses(self, request: Request) -> bool:
        return self.key is not None and request.headers.get("x-api-key") != self.key

    def model(self, request: Request) -> Any:
        if self.refuses(request):
            return problem(401, "this server needs an API key")
        return {
            "name": request.query_params.get("model", self.models[0]), "labels": LABELS, "thresholds": THRESHOLDS,
            "image_size": 96, "approach": "transfer", "backbone": "mobilenet_v2", "trained_on": 7943,
            "test": {"samples_f1": 0.8124, "mean_average_precision": 0.75}, "models": self.models,
        }  # fmt: skip

    async def tag(self, request: Request) -> Any:
        self.queries.append(dict(request.query_params))
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        body = await request.body()
        self.bodies.append(body)
        await asyncio.sleep(0.02)
        self.open -= 1
        if self.refuses(request):
            return problem(401, "this server needs an API key")
        if self.busy:
            self.busy -= 1
            return problem(503, "too many photos are waiting", {"Retry-After": "0.01"})
        try:
            decode(body, 32)
        except ImageError as error:
            return problem(415, str(error))
        return {
            "model": request.query_params["model"],
            "images": [{"image": "1", "labels": self.labels(request.query_params.get("explain"))}],
        }

    def labels(self, asked: str | None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [
            {"label": label, "probability": p, "threshold": t, "decision": p >= t}
            for label, p, t in zip(LABELS, PROBABILITIES, THRESHOLDS, strict=True)
        ]
        if asked:
            heat = np.zeros((32, 32), np.uint8)
            heat[:, 16:] = 255  # the right half is hot
            png = io.BytesIO()
            Image.fromarray(heat).save(png, "PNG")
            found[LABELS.index(asked)]["heatmap"] = base64.b64encode(png.getvalue()).decode()
        return found


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def page(browser: Any, served: Callable[[Any], str], fake: Fake) -> Iterator[Any]:
    """A tab that has not opened the page yet; what its console says must be expected in `page.expected`."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(5000)
    page.expected, page.address = "", served(fake.app)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append("an alert: " + dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    assert [text for text in said if not page.expected or page.expected not in text] == []
    assert [url for url in asked if not url.startswith((page.address, f"blob:{page.address}"))] == []


@pytest.fixture
def photo(tmp_path: Path, photos: Callable[..., list[str]]) -> str:
    return photos(tmp_path, ["sea.jpg"])[0]


def upload(page: Any, *paths: str) -> None:
    """Open the page and add photos, then wait until each has its answer."""
    page.goto(page.address)
    page.locator("#files").set_input_files(paths)
    answered(page, len(paths))


def answered(page: Any, n: int) -> None:
    page.wait_for_function(
        "n => document.querySelectorAll('article').length === n && !document.querySelector('.waiting')", arg=n
    )


def given(page: Any) -> list[str]:
    return page.locator("article .given .name").all_inner_texts()


def test_a_photo_is_sent_as_it_is_and_its_labels_are_bars_with_thresholds(page: Any, fake: Fake, photo: str) -> None:
    upload(page, photo)
    assert fake.bodies == [Path(photo).read_bytes()]
    assert fake.queries == [{"model": "first"}]
    rows = page.locator(".labels li:visible")
    assert rows.locator(".name").all_inner_texts() == [*LABELS[:6], "person"]  # the first six, and what is given
    assert rows.locator(".number").all_inner_texts() == ["0.90", "0.62", "0.45", "0.30", "0.20", "0.10", "<0.01"]
    assert given(page) == GIVEN
    for row, probability, threshold in zip(rows.all(), PROBABILITIES[:6], THRESHOLDS, strict=False):
        scale, level, mark = (row.locator(part).bounding_box() for part in (".scale", ".level", ".mark"))
        assert level["width"] == pytest.approx(probability * scale["width"], abs=1)
        assert mark["x"] + mark["width"] / 2 == pytest.approx(scale["x"] + threshold * scale["width"], abs=1)
    assert rows.first.locator(".unseen").inner_text() == "assigned, threshold 0.50"
    assert page.locator("#spoken").inner_text() == "sea.jpg: " + ", ".join(GIVEN)
    page.get_by_role("button", name="1 more label").click()
    assert rows.count() == len(LABELS)
    picture = page.get_by_role("img", name="Photo sea.jpg")
    assert picture.evaluate("image => image.naturalWidth") == 32


def test_the_page_and_the_real_server_understand_each_other(
    page: Any, served: Callable[[Any], str], colours: Bundle, photos: Callable[..., list[str]], tmp_path: Path
) -> None:
    page.address, page.expected = served(tagging_app({"colours": colours})), "422 (Unprocessable"
    path = photos(tmp_path, ["sea.jpg"])[0]
    upload(page, path)
    assert given(page) == list(colours.tag(path))
    assert "3 labels" in page.locator("#facts").inner_text()
    (tmp_path / "empty.jpg").touch()
    page.locator("#files").set_input_files([str(tmp_path / "empty.jpg")])
    answered(page, 2)
    page.locator("article").filter(has_text="the file is empty").wait_for()


@pytest.mark.parametrize(("theme", "paper"), [("light", "#ffffff"), ("dark", "#14171c")])
def test_words_are_readable_in_both_themes(page: Any, theme: str, paper: str) -> None:
    page.emulate_media(color_scheme=theme)
    page.goto(page.address)
    assert colour(page, "paper") == paper
    for words, ground in (
        ("ink", "paper"), ("ink", "wash"), ("muted", "paper"), ("muted", "wash"), ("accent", "paper"),
        ("on-accent", "accent"), ("right", "paper"), ("wrong", "paper"),
    ):  # fmt: skip
        darker, lighter = sorted(luminance(colour(page, name)) for name in (words, ground))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, f"WCAG 2.2, 1.4.3: {words} on {ground}"


def colour(page: Any, name: str) -> str:
    """A colour of the page's style, in hexadecimal digits."""
    return page.evaluate("name => getComputedStyle(document.body).getPropertyValue(`--${name}`).trim()", name)


def luminance(colour: str) -> float:
    """Relative luminance, 0 to 1, as WCAG defines it."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_the_model_is_told(page: Any) -> None:
    page.goto(page.address)
    page.get_by_text("transfer, mobilenet_v2").wait_for()
    facts = page.locator("#facts").inner_text()
    assert "first" in page.locator("header").inner_text()
    for text in ("7,943 photos", "96 × 96 pixels", "Test mAP\n0.750", "0.812", "8 labels", HOSTILE):
        assert text in facts
    assert page.locator("#models").is_hidden()


def test_moving_thresholds_changes_the_decisions_of_all_photos(page: Any, photo: str) -> None:
    upload(page, photo, photo)
    assert page.locator("#count").inner_text() == "2 photos, 6 labels assigned"
    assert page.get_by_role("button", name="Reset").is_disabled()
    page.get_by_text("Per label").click()
    slider = page.get_by_label(HOSTILE, exact=True)
    slider.focus()
    for _ in range(9):
        page.keyboard.press("ArrowLeft")
    assert page.locator("#sliders span").nth(1).inner_text() == "0.70 → 0.61"
    assert sorted(given(page)) == sorted([*GIVEN, HOSTILE] * 2)
    mark, scale = (page.locator(f"article li:nth-child(2) .{part}").first.bounding_box() for part in ("mark", "scale"))
    assert mark["x"] + 1 == pytest.approx(scale["x"] + 0.61 * scale["width"], abs=1)

    page.get_by_label("All thresholds").fill("3")
    assert given(page) == []
    assert page.locator("#count").inner_text() == "2 photos, 0 labels assigned"
    page.get_by_label("All thresholds").fill("-3")
    assert sorted(given(page)) == sorted(LABELS * 2)
    page.get_by_role("button", name="Reset").click()
    assert given(page) == GIVEN * 2
    assert page.locator("#sliders span").nth(1).inner_text() == "0.70"
    assert slider.input_value() == "0.7"


def test_a_heat_map_is_drawn_over_the_photo_and_asked_for_once(page: Any, fake: Fake, photo: str) -> None:
    upload(page, photo)
    look = page.get_by_role("button", name=f"Heat map of “{HOSTILE}”")
    look.click()
    heat = page.get_by_role("img", name=f"Heat map of “{HOSTILE}”")
    heat.wait_for()
    assert look.get_attribute("aria-pressed") == "true"
    assert fake.queries[1:] == [{"model": "first", "explain": HOSTILE}]
    # As wide and high as the photo, dark where it is cold and bright where it is hot.
    width, height, cold, hot = heat.evaluate(
        """canvas => [canvas.width, canvas.height, ...[0.1, 0.9].map((x) =>
            [...canvas.getContext("2d").getImageData(x * canvas.width, canvas.height / 2, 1, 1).data])]"""
    )
    assert width / height == pytest.approx(32 / 24, rel=0.01)
    assert sum(cold[:3]) < 20 < 600 < sum(hot[:3])
    assert 50 < hot[3] < 200  # the photo is seen through it
    look.click()
    assert heat.is_hidden()
    assert look.get_attribute("aria-pressed") == "false"
    look.click()
    heat.wait_for()
    page.get_by_role("button", name="Heat map of “dog”").click()
    page.get_by_role("img", name="Heat map of “dog”").wait_for()
    assert page.locator(".look[aria-pressed=true]").count() == 1
    assert [query.get("explain") for query in fake.queries] == [None, HOSTILE, "dog"]


def test_a_heat_map_that_cannot_be_had_says_why(page: Any, fake: Fake, photo: str) -> None:
    page.expected = "Failed to load resource"
    upload(page, photo)
    page.route("**/v1/tag?*explain=*", lambda route: route.fulfill(status=422, json={"detail": "it has no gradients"}))
    page.get_by_role("button", name="Heat map of “boat”").click()
    page.locator(".caption", has_text="No heat map. it has no gradients").wait_for()
    assert page.locator(".look[aria-pressed=true]").count() == 0
    assert given(page) == GIVEN


def test_a_bad_file_says_why_on_its_card_and_the_others_are_tagged(page: Any, photo: str, tmp_path: Path) -> None:
    page.expected = "Failed to load resource"
    bad = tmp_path / f"{HOSTILE.replace('/', '')}.jpg"
    bad.write_text("text")
    scan = tmp_path / "scan.tif"
    Image.open(photo).save(scan)
    upload(page, str(bad), photo, str(scan))
    card = page.locator("article", has=page.get_by_role("heading", name=bad.name))
    assert card.locator(".state").inner_text().startswith("Not tagged\nnot an image")
    assert card.get_by_role("button", name="again").count() == 0  # it would be no better
    assert page.locator("article img").count() == 3  # the name made none
    assert given(page) == GIVEN * 2  # the scan is tagged as well, though browsers cannot show it
    page.get_by_text("This browser cannot show this image format.").locator("visible=true").wait_for()


def test_a_server_that_is_gone_or_busy(page: Any, fake: Fake, photo: str) -> None:
    page.expected = "Failed to load resource"
    fake.busy = 2
    upload(page, photo)  # asks again by itself
    assert len(fake.queries) == 3
    page.route("**/v1/tag*", lambda route: route.abort())
    page.locator("#files").set_input_files([photo])
    answered(page, 2)
    state = page.locator("article").first.locator(".state")
    assert state.inner_text() == "Not tagged\nThe server does not respond. Is polytag serve still running?"
    page.unroute("**/v1/tag*")
    page.get_by_role("button", name="Try sea.jpg again").click()
    answered(page, 2)
    page.wait_for_function("() => document.querySelectorAll('.failed').length === 0")
    assert given(page) == GIVEN * 2


def test_many_photos_are_sent_two_at_a_time_and_can_be_removed(
    page: Any, fake: Fake, photos: Callable[..., list[str]], tmp_path: Path
) -> None:
    upload(page, *photos(tmp_path, 8))
    assert fake.most_open == 2
    assert page.locator("article h2").all_inner_texts() == [f"image{i}.jpg" for i in range(8)]
    assert page.locator("#status").inner_text() == ""
    page.get_by_role("button", name="Remove image3.jpg").press("Enter")
    assert page.locator("article").count() == 7
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove image4.jpg"
    page.get_by_role("button", name="Clear all").click()
    assert page.locator("article").count() == 0
    assert page.locator("#results").is_hidden()
    assert page.evaluate("document.activeElement.id") == "choose"


def test_photos_are_dropped_and_pasted(page: Any, fake: Fake, photo: str) -> None:
    page.goto(page.address)
    for n, (kind, carrier) in enumerate({"drop": "DragEvent", "paste": "ClipboardEvent"}.items(), start=1):
        page.evaluate(
            """([kind, carrier, bytes]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], kind + ".jpg", { type: "image/jpeg" }));
                const event = new window[carrier](kind, { bubbles: true, dataTransfer: data, clipboardData: data });
                document.body.dispatchEvent(event);
            }""",
            [kind, carrier, list(Path(photo).read_bytes())],
        )
        answered(page, n)
    assert page.locator("article h2").all_inner_texts() == ["paste.jpg", "drop.jpg"]
    assert fake.bodies == [Path(photo).read_bytes()] * 2


def test_results_are_copied_and_saved_with_the_thresholds_as_they_stand(page: Any, photo: str, tmp_path: Path) -> None:
    page.expected = "Failed to load resource"
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    upload(page, photo, str(bad))
    page.get_by_text("Per label").click()
    page.get_by_label("boat", exact=True).fill("0.95")

    page.get_by_role("button", name="Copy as JSON").click()
    page.get_by_text("Copied 2 photos as JSON").wait_for()
    told = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert told["model"] == "first"
    first, second = told["images"]
    assert first["labels"][0] == {"label": "boat", "probability": 0.9, "threshold": 0.95, "decision": False}
    assert [row["label"] for row in first["labels"]] == LABELS
    assert [row["label"] for row in first["labels"] if row["decision"]] == GIVEN[1:]
    assert [row["threshold"] for row in first["labels"][1:]] == THRESHOLDS[1:]
    assert second["image"] == "bad.jpg"
    assert second["error"]["status"] == 415

    # Without a clipboard, which browsers keep from pages without HTTPS, it is copied the old way.
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error()) }")
    page.get_by_role("button", name="Copy as CSV").click()
    page.get_by_text("Copied 2 photos as CSV").wait_for()
    text = page.evaluate("navigator.clipboard.readText()")
    row, failed = csv.DictReader(io.StringIO(text))
    assert (row["image"], row["labels"], row["error"]) == ("sea.jpg", "|".join(GIVEN[1:]), "")
    assert [float(row[label]) for label in LABELS] == PROBABILITIES
    assert (failed["image"], failed["labels"]) == ("bad.jpg", "")
    assert failed["error"]

    with page.expect_download() as download:
        page.get_by_role("button", name="Save as JSON").click()
    assert download.value.suggested_filename == "labels.json"
    assert json.loads(Path(download.value.path()).read_text()) == told


def test_a_key_is_asked_for_and_kept_for_this_tab_only(page: Any, fake: Fake, photo: str) -> None:
    page.expected = "Failed to load resource"
    fake.key = KEY
    page.goto(page.address)
    field = page.get_by_role("textbox", name="API key")
    field.fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_text("That key was not accepted.").wait_for()
    field.fill(KEY)
    page.get_by_role("button", name="Continue").click()
    page.get_by_text("transfer, mobilenet_v2").wait_for()
    page.locator("#files").set_input_files([photo])
    answered(page, 1)
    assert given(page) == GIVEN
    assert page.evaluate("[localStorage.length, document.cookie, location.search]") == [0, "", ""]
    page.reload()
    page.get_by_text("transfer, mobilenet_v2").wait_for()  # without asking again

    page.evaluate("sessionStorage.clear()")
    page.reload()
    field.wait_for()
    page.keyboard.press("Escape")
    page.get_by_text("This server needs an API key.").wait_for()
    assert page.locator("#problem").is_visible()


def test_one_of_several_models_is_chosen_and_tags_all_again(page: Any, fake: Fake, photo: str) -> None:
    fake.models = ["first", HOSTILE]
    upload(page, photo)
    page.get_by_label("All thresholds").fill("3")
    page.get_by_label("Choose a model").select_option(HOSTILE)
    page.wait_for_function("() => document.querySelectorAll('.given').length === 3 + 1")  # one stands in the legend
    assert [query["model"] for query in fake.queries] == ["first", HOSTILE]
    assert page.get_by_label("All thresholds").input_value() == "0"


def test_it_fits_a_phone_and_fingers(browser: Any, page: Any, photo: str, tmp_path: Path) -> None:
    long = tmp_path / ("a_very_long_name_" * 12 + ".jpg")
    shutil.copy(photo, long)
    phone = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    small = phone.new_page()
    small.address = page.address
    for opened in (small, page):
        upload(opened, str(long), photo)
        opened.get_by_text("Per label").click()
        width = opened.viewport_size["width"]
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        for box in opened.evaluate(
            """[...document.querySelectorAll("button, input, .name, .scale, h2")]
                .map((part) => part.getBoundingClientRect().toJSON())"""
        ):
            assert box["left"] >= 0
            assert box["right"] <= width
    buttons = [button.bounding_box() for button in small.locator("button:visible").all()]
    assert len(buttons) > 20
    assert min(box["height"] for box in buttons) >= 44
    assert small.get_by_role("button", name="Take a photo").is_visible()
    assert small.locator(".name").nth(2).bounding_box()["width"] > 150  # names are read, not cut
    phone.close()


def test_the_keyboard_reaches_everything_and_is_seen(page: Any, photo: str) -> None:
    upload(page, photo)
    page.locator("#choose").focus()
    reached = []
    while len(reached) < 40 and page.evaluate("document.activeElement !== document.body"):
        reached.append(
            page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.innerText")
        )
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", reached[-1]
        page.keyboard.press("Tab")
    for name in ("All thresholds", "Per label", "Copy as JSON", "Save as CSV", "Clear all", "Remove sea.jpg",
                 "Heat map of “boat”", "1 more label"):  # fmt: skip
        assert name in reached
