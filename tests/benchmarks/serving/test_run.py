"""The whole command, small: our server and FastAPI as they are, with a model and photos made here."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.serving import __main__ as command
from benchmarks.serving.contest import QUICK
from tests.tiny_model import write_tiny_model

TINY = dataclasses.replace(
    QUICK,
    measured_s=0.4,
    warm_s=0.1,
    trial_s=0.1,
    connections=(2,),
    open_s=0.3,
    index_s=0.02,
    memory_requests=28,
)


@pytest.mark.parametrize("parts", [["throughput", "latency"], ["index", "memory"]])
def test_a_run_measures_and_prints_every_part(
    parts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    random = np.random.default_rng(0)
    for number in range(3):
        pixels = np.kron(random.integers(0, 256, (4, 6, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg")
    model = write_tiny_model(tmp_path / "tiny.onnx")
    monkeypatch.setattr(command, "QUICK", TINY)
    arguments = ["--photos", tmp_path, "--model", model, "--peers", "FastAPI", "--json", tmp_path / "figures"]
    monkeypatch.setattr(sys, "argv", ["serving", *map(str, arguments), "--quick", "--only", *parts])
    command.main()
    figures = json.loads((tmp_path / "figures").read_text())
    printed = capsys.readouterr().out
    found = figures["models"]["tiny"]
    assert figures["errors"] == []
    if "throughput" in parts:
        assert list(found["throughput"]) == ["ours", "FastAPI", "FastAPI, our session"]
        for row in found["throughput"].values():
            assert row["rate"] > 0
            assert 0 < row["server_cores"] <= 2.5
        assert found["throughput"]["ours"]["metrics"]["requests"] > 0
        assert found["ceiling"]["rates"][0] > 0
        entry = found["latency"][0]
        assert entry["offered_rate"] == pytest.approx(0.8 * found["throughput"]["FastAPI"]["rate"])
        assert 0 < entry["ours_p50_ms"] <= entry["ours_p99_ms"]
        assert "| FastAPI, our session |" in printed
        assert "| 80% of FastAPI |" in printed
    else:
        assert found["index"]["rate"] > 0
        assert found["memory"]["requests"] == 28
        assert found["memory"]["start_mib"] > 10
        assert "`stochcon index` of" in printed
        assert "Resident memory over 28 requests, 1 to 64 at a time" in printed
