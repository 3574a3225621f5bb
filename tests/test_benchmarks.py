"""The benchmarks of whole trainings: what their figures rest on, without any training."""

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import polytag as pt
from polytag.photos.content import content_hash
from polytag.photos.decode import decode

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """``benchmark(name)`` imports one of the scripts, as Python does that runs them."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    yield importlib.import_module
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and Path(getattr(module, "__file__", None) or "/").parent == FOLDER:
            del sys.modules[name]


def curve(*points: tuple[float, float]) -> list[dict[str, float]]:
    return [{"minutes": minutes, "validation_map": score} for minutes, score in points]


def test_repeated_photos_are_new_to_the_cache_and_show_the_same(benchmark, photos, tmp_path) -> None:
    photos(tmp_path / "photos", 4)
    (tmp_path / "photos" / "labels.csv").write_text(
        "image,a,b\n" + "".join(f"image{i}.jpg,1,{i % 2}\n" for i in range(4))
    )
    data = pt.read(tmp_path / "photos" / "labels.csv")
    more = benchmark("memory").repeated(data, 3, tmp_path / "more")
    assert len({content_hash(path) for path in more.paths}) == 12
    for i, path in enumerate(more.paths):
        assert np.array_equal(decode(path), decode(data.paths[i % 4]))
        assert np.array_equal(more.targets[i], data.targets[i % 4])


def test_ratios_compare_the_way_to_the_model_and_to_the_score_of_the_reference(benchmark) -> None:
    results = {
        "reference-frozen": {"seconds": 600.0, "capped": True, "curve": curve((4, 0.6), (8, 0.8), (10, 0.8))},
        "polytag-frozen": {"seconds": 60.0, "capped": False, "curve": curve((0.5, 0.7), (1, 0.75))},
        "polytag": {"seconds": 300.0, "capped": False, "curve": curve((0.5, 0.7), (2, 0.81), (5, 0.9))},
    }
    frozen, tuned = benchmark("accuracy_per_minute").ratios(results)
    assert (frozen["polytag"], frozen["to_model"], frozen["to_level"]) == ("polytag-frozen", 10, None)
    assert (tuned["polytag"], tuned["to_model"], tuned["to_level"], tuned["level"]) == ("polytag", 2, 4, 0.8)
    assert frozen["capped"] and tuned["capped"]


def test_only_a_run_of_the_same_setting_goes_on(benchmark, tmp_path) -> None:
    module = benchmark("accuracy_per_minute")
    file = tmp_path / "run.json"
    assert module.resumed(file, {"seed": 0}) == {}
    file.write_text('{"seed": 0, "methods": {"polytag": {"seconds": 1}}}')
    assert module.resumed(file, {"seed": 0}) == {"polytag": {"seconds": 1}}
    with pytest.raises(SystemExit, match="another seed"):
        module.resumed(file, {"seed": 1})


def test_a_fresh_process_has_an_empty_cache_that_goes_with_it(benchmark, tmp_path) -> None:
    in_fresh_process = benchmark("processes").in_fresh_process
    assert in_fresh_process(os.getpid) != os.getpid()
    own = in_fresh_process(os.getenv, "POLYTAG_CACHE")
    assert own != os.environ["POLYTAG_CACHE"]
    assert not Path(own).exists()
    assert in_fresh_process(os.getenv, "POLYTAG_CACHE", cache=str(tmp_path)) == str(tmp_path)


def test_the_clock_stands_still_while_only_the_benchmark_works(benchmark, monkeypatch) -> None:
    module = benchmark("processes")
    now = 100.0
    monkeypatch.setattr(module.time, "time", lambda: now)
    clock = module.Clock(90.0)
    assert clock.seconds == 10
    with clock.stopped():
        now = 150.0
    assert clock.seconds == 10
    now = 151.0
    assert clock.seconds == 11


def test_the_pointing_game_counts_the_hottest_place(benchmark, tmp_path) -> None:
    module = benchmark("pointing_game")
    heat = np.zeros((32, 32), np.float32)
    heat[4, 20] = 1
    half, side = module.SIDE // 2, module.SIDE
    assert module.played(heat, (half, 0, side, half)) == (True, 0.25, False)
    assert module.played(heat, (0, 0, half, side)) == (False, 0.5, False)
    assert module.played(0 * heat, (0, 0, side, side)) == (False, 1.0, True)
    # A scene's boxes are found by its file.
    (scene,) = (pt.write_sample(tmp_path / "sample", 1, module.SIDE, seed=4) / "images").iterdir()
    labels = (tmp_path / "sample" / "labels.csv").read_text().splitlines()[1].partition(",")[2]
    assert set(module.boxes_of(str(scene), 4)) == set(filter(None, labels.split("|")))


def test_the_reading_benchmark_sees_wrong_labels(benchmark, photos, tmp_path) -> None:
    reading = benchmark("reading")
    form = reading.Form("image_name,tags", lambda: reading.names(60, "t_{}", ".jpg", reading.PLANET, " ", 4), 60, 17)
    expected, n_rows = reading.write(form, tmp_path)
    data = pt.read(tmp_path / "labels.csv")
    assert n_rows == len(expected) == len(data) == reading.labels_right(data, expected, 0) == 60
    first = data.names[0].removeprefix("photos/")
    assert reading.labels_right(data, {**expected, first: {"tag_99": 1}}, 0) == 59


def test_one_guard_refuses_in_one_line(benchmark, capsys) -> None:
    guards = benchmark("guards")
    polytag = [sys.executable, "-m", "polytag"]
    assert guards.check(guards.GUARDS[0], polytag) and "--labels" in capsys.readouterr().out
    fine = guards.Guard("fine", guards.table("image,labels", guards.repeated("cat", "dog", "cat|dog")))
    assert not guards.check(fine, polytag)
