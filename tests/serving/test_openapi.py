"""The OpenAPI document tells the truth: whatever follows from it is answered as it says."""

import sys
import types
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from strangers import ODD_BUT_FINE, noise, photo

from polytag.models.bundle import Bundle
from polytag.serving.server import tagging_app

schemathesis = pytest.importorskip("schemathesis", reason="needs Schemathesis: pip install schemathesis")

# That a body must be a photo is more than JSON Schema can say.
PHOTOS = st.sampled_from([*ODD_BUT_FINE.values(), *(noise(seed) for seed in range(5)), photo((0, 0, 250))])
schemathesis.openapi.format("binary", PHOTOS)
for kind in ("image/jpeg", "image/png", "image/webp", "application/octet-stream"):
    schemathesis.openapi.media_type(kind, PHOTOS)


@pytest.fixture(scope="module")
def document(colours: Bundle) -> Any:
    with pytest.MonkeyPatch.context() as patch:

        class Explainer:
            def __init__(self, bundle: Bundle) -> None:
                self.size = bundle.image_size

            def heat(self, photo: np.ndarray, labels: list[str]) -> np.ndarray:
                return np.ones((len(labels), self.size, self.size), np.float32)

        module = types.ModuleType("polytag.serving.explain")
        module.Explainer = Explainer  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "polytag.serving.explain", module)
        yield schemathesis.openapi.from_asgi(
            "/openapi.json", tagging_app({"colours": colours}, "secret", host="testserver")
        )


schema = schemathesis.pytest.from_fixture("document")


@schema.parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_answers_are_as_described(case: Any) -> None:
    case.call_and_validate(headers={"X-API-Key": "secret"})
