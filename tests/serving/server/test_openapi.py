"""The OpenAPI document tells the truth: whatever follows from it is answered as it says."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_uploads import ODD_BUT_FINE, noise, photo

from polytag.models.bundle.bundle import Bundle
from polytag.serving.server.server import tagging_app
from polytag.serving.server.uploads import Limits

schemathesis = pytest.importorskip("schemathesis", reason="needs Schemathesis: pip install schemathesis")

# That a body must be a photo is more than JSON Schema can say.
PHOTOS = st.sampled_from([*ODD_BUT_FINE.values(), *(noise(seed) for seed in range(5)), photo((0, 0, 250))])
schemathesis.openapi.format("binary", PHOTOS)
for kind in ("image/jpeg", "image/png", "image/webp", "image/heic", "image/avif", "application/octet-stream"):
    schemathesis.openapi.media_type(kind, PHOTOS)


@pytest.fixture(scope="module")
def document(colours: Bundle) -> Any:
    with pytest.MonkeyPatch.context() as patch:

        class Explainer:
            def __init__(self, bundle: Bundle) -> None:
                self.size = bundle.image_size

            def heat(self, photo: np.ndarray, labels: list[str]) -> np.ndarray:
                return np.ones((len(labels), self.size, self.size), np.float32)

        patch.setattr("polytag.serving.server.service.explainer_of", Explainer)
        # So many that no limit, of which the document can only tell in words, gets in the way.
        limits = Limits(waiting_explanations=64)
        yield schemathesis.openapi.from_asgi(
            "/openapi.json", tagging_app({"colours": colours}, host="testserver", limits=limits)
        )


GOOD, BAD = schemathesis.GenerationMode
ROUTES = [
    ("POST /v1/tag", GOOD), ("POST /v1/tag", BAD), ("GET /v1/model", GOOD), ("GET /v1/model", BAD),
    ("GET /metrics", GOOD), ("GET /healthz", GOOD), ("GET /readyz", GOOD),
]  # fmt: skip


@pytest.mark.parametrize(("route", "mode"), ROUTES, ids=str)
def test_answers_are_as_described(document: Any, route: str, mode: Any) -> None:
    method, path = route.split()

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(case=document[path][method].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate()

    check()


def test_every_route_is_tried(document: Any) -> None:
    assert {found.ok().label for found in document.get_all_operations()} == {route for route, _ in ROUTES}
