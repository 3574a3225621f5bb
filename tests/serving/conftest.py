"""What these tests share: a model that needs no training, one Chromium, and a way to serve an app to it."""

import hashlib
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import uvicorn
from onnx import TensorProto, helper

from polytag.models.bundle.bundle import Bundle
from polytag.serving.web.http import uvicorn_config


def write_colours(folder: Path, *labels: str) -> Path:
    """A bundle whose three labels are as probable as a photo is red, green and blue on the whole."""
    nodes = [
        helper.make_node("Cast", ["photo"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "shift"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("photo", TensorProto.UINT8, ["n", 16, 16, 3])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 3])],
        [
            helper.make_tensor("scale", TensorProto.FLOAT, [], [10 / 255]),
            helper.make_tensor("shift", TensorProto.FLOAT, [], [5.0]),
        ],
    )
    folder.mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx"
    )
    manifest = {
        "format": 1,
        "pixel_path": 1,
        "polytag": "0.1.0",
        "labels": labels,
        "thresholds": [0.5, 0.6, 0.7],
        "recipe": {"model": "transfer", "image_size": 16, "backbone": "none"},
        "data": {"train": 120, "validation": 30},
        "test": {"samples_f1": 0.9},
        "history": {},
        "validation_accuracy": None,
        "fit_seconds": 1.0,
        "parameters": 0,
        "trainable_parameters": 0,
        "files": {"model.onnx": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()},
    }
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle(write_colours(tmp_path_factory.mktemp("bundles") / "colours", "red", "green", "blue"))


@pytest.fixture(scope="session")
def farben(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle(write_colours(tmp_path_factory.mktemp("bundles") / "farben", "rot", "grün", "blau"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window; a file of browser tests skips itself as a whole where there is none."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def served() -> Iterator[Callable[[Any], str]]:
    """``served(app)`` serves an app on a free port while the test runs, and returns its address."""
    running = []

    def start(app: Any) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn_config(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        running.append((server, thread, listening))
        return f"http://127.0.0.1:{listening.getsockname()[1]}/"

    yield start
    for server, thread, listening in running:
        server.should_exit = True
        thread.join()
        listening.close()
