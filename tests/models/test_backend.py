"""The types that training computes in follow from the processor."""

from pathlib import Path

import pytest

from polytag.models import backend

tensorflow = pytest.importorskip("tensorflow")


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        ("flags : fpu sse2 avx512f avx512_bf16 fsrm", "mixed_bfloat16"),
        ("flags : fpu amx_bf16 amx_tile", "mixed_bfloat16"),
        ("flags : fpu sse2 avx2 avx512f avx512_vnni", "float32"),
        (None, "float32"),
    ],
)
def test_processors(flags: str | None, policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = tmp_path / "cpuinfo"
    if flags is not None:
        facts.write_text(f"processor : 0\n{flags}\n")
    monkeypatch.setattr(backend, "CPU_INFO", facts)
    monkeypatch.setattr(tensorflow.config, "list_physical_devices", lambda kind: [])
    assert backend.training_policy() == policy and backend.on_cpu()


@pytest.mark.parametrize(
    ("capabilities", "policy"),
    [
        ([(8, 0)], "mixed_bfloat16"),
        ([(9, 0), (8, 6)], "mixed_bfloat16"),
        ([(9, 0), (7, 5)], "mixed_float16"),
        ([(6, 1), (7, 5)], "float32"),
        ([None], "float32"),
    ],
)
def test_gpus(capabilities: list, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def details(card: int) -> dict:
        return {} if capabilities[card] is None else {"compute_capability": capabilities[card]}

    monkeypatch.setattr(tensorflow.config, "list_physical_devices", lambda kind: list(range(len(capabilities))))
    monkeypatch.setattr(tensorflow.config.experimental, "get_device_details", details)
    assert backend.training_policy() == policy and not backend.on_cpu()


def test_where_other_backends_compute_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend.keras.backend, "backend", lambda: "jax")
    assert not backend.on_cpu() and backend.training_policy() == "float32"
