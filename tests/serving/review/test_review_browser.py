"""The review page in a real browser: keys, saving, going on, phones, and photos that cannot be shown."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polytag.auditing.decisions import Decision, read_decisions
from polytag.data.dataset import Dataset
from polytag.serving.review.review import Suspect, review_app

pytest.importorskip("playwright", reason="browser tests need Playwright: pip install playwright")
if shutil.which("chromium") is None:
    pytest.skip("browser tests need Chromium: apt-get install chromium", allow_module_level=True)

LABELS = ("sea", "Sea", "tree", *(f"a label of many words, number {i}" for i in range(25)))
LONG = "a_very_long_name_" * 12 + ".jpg"
HOSTILE = "<img src=x onerror=alert(1)>.jpg"


@pytest.fixture
def page(browser: Any, served: Callable[[Any], str], tmp_path: Path, photos: Callable[..., list[str]]) -> Iterator[Any]:
    """The page, opened at the first of six suspects; what the console says must be expected in `page.expected`."""
    names = ["a.jpg", "b.jpg", LONG, "text.jpg", HOSTILE]
    paths = photos(tmp_path / "photos", names)
    Path(paths[3]).write_text("text")
    targets = np.zeros((5, len(LABELS)), np.int8)
    targets[1, 0], targets[2] = -1, 1
    data = Dataset(np.array(paths), targets, LABELS, np.arange(5), tmp_path / "photos")

    def suspect(image: str, label: str, action: str, into: str = "", **more: Any) -> Suspect:
        return Suspect(image, label, "suspicious", Decision(image, label, action, "probe", into=into), "why", **more)

    suspects = [
        suspect("a.jpg", "sea", "present", probability=0.97),
        suspect("b.jpg", "sea", "unknown", other="a.jpg"),
        suspect(LONG, LABELS[-1], "absent", probability=0.02),
        suspect("text.jpg", "", "drop"),
        suspect(HOSTILE, "tree", "present"),
        suspect("", "Sea", "merge", into="sea"),
    ]
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(5000)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.expected = ""
    page.decisions = tmp_path / "decisions.csv"
    page.goto(served(review_app(data, suspects, page.decisions)))
    at(page, 1)
    yield page
    page.close()
    assert [text for text in said if not page.expected or page.expected not in text] == []


def at(page: Any, number: int, decided: int = 0) -> None:
    page.get_by_text(f"{number} of 6, {decided} decided", exact=True).wait_for()


def saved(page: Any) -> list[tuple[str, str, str]]:
    return [(d.image, d.label, d.action) for d in read_decisions(page.decisions)]


def test_keys_decide_and_each_decision_is_saved_at_once(page: Any) -> None:
    assert page.locator("h1").inner_text() == "Does this photo show “sea”?"
    assert page.locator("#number").inner_text() == "0.97"
    assert page.locator("#level").bounding_box()["width"] > 0.9 * page.locator("#bar").bounding_box()["width"]
    assert page.locator(".labels .asked").inner_text().split() == ["sea", "absent"]
    page.expected = "Failed to load resource"  # the photo that is text, loaded ahead
    page.wait_for_function("document.querySelector('img').naturalWidth > 0")
    assert page.locator("[data-action=present]").is_hidden()
    page.keyboard.press("a")
    at(page, 2, 1)
    assert page.locator("#saved").inner_text() == "Saved"
    assert saved(page) == [("a.jpg", "sea", "present")]
    assert page.locator("img").count() == 2

    page.keyboard.press("x")  # the table does not know, so "absent" is offered
    at(page, 3, 2)
    page.keyboard.press("k")
    at(page, 4, 3)
    page.keyboard.press("Enter")
    at(page, 5, 4)
    page.keyboard.press("u")
    at(page, 6, 5)
    page.keyboard.press("u")  # not offered for a label of the whole table
    assert page.locator("h1").inner_text() == "Do “Sea” and “sea” mean the same thing?"
    assert page.locator("#photos").is_hidden()
    assert len(saved(page)) == 5
    page.keyboard.press("a")
    page.get_by_role("heading", name="All decided").wait_for()
    assert saved(page) == [
        ("a.jpg", "sea", "present"), ("b.jpg", "sea", "absent"), (LONG, LABELS[-1], "keep"),
        ("text.jpg", "", "drop"), (HOSTILE, "tree", "unknown"), ("", "Sea", "merge"),
    ]  # fmt: skip
    command = f"polytag audit DATA --clean cleaned.csv --decisions {page.decisions}"
    assert [" ".join(text.split()) for text in page.locator("#end code").all_inner_texts()] == [
        str(page.decisions),
        command,
    ]
    assert page.locator("#end li").all_inner_texts() == [
        "1 set to absent", "1 left out", "1 kept", "1 merged", "1 set to present", "1 set to unknown",
    ]  # fmt: skip
    page.keyboard.press("b")
    at(page, 6, 6)
    assert page.locator("#decision").inner_text() == "You decided: “Sea” becomes “sea”"
    assert page.locator("[data-action=accept]").get_attribute("aria-pressed") == "true"


def test_stepping_undoing_and_going_on_after_a_reload(page: Any) -> None:
    page.expected = "Failed to load resource"  # the photo that is text, loaded ahead
    page.keyboard.press("ArrowRight")
    at(page, 2)
    page.keyboard.press("ArrowLeft")
    at(page, 1)
    page.keyboard.press("k")
    at(page, 2, 1)
    page.keyboard.press("p")
    at(page, 3, 2)
    page.keyboard.press("z")  # takes back the last decision, and shows its photo
    at(page, 2, 1)
    assert saved(page) == [("a.jpg", "sea", "keep")]
    assert page.locator("#decision").inner_text() == ""
    page.keyboard.press("n")
    at(page, 3, 1)
    page.reload()
    at(page, 2, 1)
    page.keyboard.press("b")
    at(page, 1, 1)
    assert page.locator("#decision").inner_text() == "You decided: no change"
    page.keyboard.press("z")  # the decision shown, though it was made before the reload
    at(page, 1)
    assert saved(page) == []
    page.keyboard.press("Control+a")
    page.keyboard.press("b")
    page.locator("[data-action=keep]").click()
    at(page, 2, 1)
    page.keyboard.press("Enter")  # accepts; it does not press the button of the last photo again
    at(page, 3, 2)
    assert saved(page) == [("a.jpg", "sea", "keep"), ("b.jpg", "sea", "unknown")]


def test_a_photo_that_cannot_be_shown_says_why(page: Any) -> None:
    page.expected = "Failed to load resource"
    for number in (2, 3, 4):
        page.keyboard.press("n")
        at(page, number)
    message = page.locator(".frame p")
    message.wait_for()
    assert message.inner_text().startswith("This photo cannot be shown\nnot an image (expected JPEG")
    page.keyboard.press("a")
    at(page, 5, 1)
    assert page.locator("figcaption .name").inner_text() == HOSTILE


def test_what_could_not_be_saved_is_said_and_the_page_stays(page: Any) -> None:
    page.expected = "Failed to load resource"
    page.keyboard.press("k")
    at(page, 2, 1)
    damaged = page.decisions.read_text() + "half a row\n"
    page.decisions.write_text(damaged)
    page.keyboard.press("k")
    page.get_by_role("alert").get_by_text("Not saved.").wait_for()
    assert "line 3: expected 6 cells, got 1" in page.locator("#problem").inner_text()
    assert page.locator("#saved").inner_text() == ""
    at(page, 2, 1)
    assert page.decisions.read_text() == damaged
    page.decisions.unlink()
    page.keyboard.press("k")
    at(page, 3, 1)
    assert page.locator("#problem").inner_text() == ""
    assert saved(page) == [("b.jpg", "sea", "keep")]


def test_it_fits_every_screen_and_buttons_can_be_reached(page: Any) -> None:
    page.expected = "Failed to load resource"
    for width, height in ((390, 844), (844, 390), (1280, 800)):
        page.set_viewport_size({"width": width, "height": height})
        for number in range(1, 7):
            at(page, number)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator("#words").evaluate("box => box.scrollWidth <= box.clientWidth")
            boxes = page.evaluate(
                "[...document.querySelectorAll('button')].map(x => x.getBoundingClientRect().toJSON())"
            )
            for box in filter(lambda box: box["width"], boxes):
                assert box["height"] >= 44
                assert box["left"] >= 0 <= box["top"]
                assert box["right"] <= width
                assert box["bottom"] <= height
            for picture in page.locator(".frame").all():
                assert picture.bounding_box()["height"] >= 100
            page.keyboard.press("n")
        page.get_by_role("heading", name="6 undecided").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.keyboard.press("n")
        at(page, 1)


def test_focus_is_visible_and_new_questions_are_read_out(page: Any) -> None:
    assert page.evaluate("document.activeElement.id") == "question"
    for action in ("accept", "keep", "unknown", "next"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.dataset.action") == action
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")  # presses "Next", and accepts nothing
    at(page, 2)
    assert page.evaluate("document.activeElement.id") == "question"
    assert not page.decisions.exists()
    for name in ("progress", "saved"):
        assert page.locator(f"#{name}").get_attribute("aria-live") == "polite"
