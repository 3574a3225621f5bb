"""Each test has a connection of its own."""

import pytest

from polytag.models.encoders.source import Hub


@pytest.fixture(autouse=True)
def no_failed_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "_offline_until", 0.0)
