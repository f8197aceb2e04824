"""The GPU script: its parts in small on the CPU, and how it goes on where one fails or takes too long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import gpu
from benchmarks.device.clock import Measured, matmul_tflops
from benchmarks.device.correctness import Checks, losses
from benchmarks.device.jpegs import HEIGHT, WIDTH, write_jpegs
from benchmarks.device.parts import Part, Results, run_parts
from benchmarks.device.settings import FULL, TINY, Case, Settings
from benchmarks.device.training import step_flops, utilisation
from tests.conftest import ROOT

CPU = torch.device("cpu")


def test_parts_go_on_and_are_written(tmp_path: Path) -> None:
    seen: list[Any] = []

    def look() -> int:
        seen.append(json.loads((tmp_path / "gpu.json").read_text())["found"])
        return 2

    def broken() -> None:
        raise RuntimeError("no such kernel")

    def refused() -> None:
        raise SystemExit("a command's own words")

    parts = [
        Part("first", "a", 0.0, lambda: 1),
        Part("broken", "a", 0.0, broken),
        Part("refused", "a", 0.0, refused),
        Part("second", "a", 0.0, look),
        Part("dear", "b", 1000.0, lambda: 3),
    ]
    results = Results(tmp_path / "gpu.json")
    run_parts(parts, results, seconds=60)
    assert seen == [{"first": 1}], "what is known is on disk before the next part begins"
    kept = json.loads((tmp_path / "gpu.json").read_text())
    assert kept["found"] == {"first": 1, "second": 2}
    assert kept["failures"].keys() == {"broken", "refused"}
    assert "no such kernel" in kept["failures"]["broken"] and "Traceback" in kept["failures"]["broken"]
    assert kept["left_out"].keys() == {"dear"} and "needs about 1000 s" in kept["left_out"]["dear"]


def test_a_part_that_takes_all_is_stopped_and_its_like_left_out(tmp_path: Path) -> None:
    parts = [
        Part("slow", "a", 0.0, lambda: time.sleep(30)),
        Part("as slow", "a", 0.0, lambda: time.sleep(30)),
    ]
    results, began = Results(tmp_path / "gpu.json"), time.monotonic()
    run_parts(parts, results, seconds=0.5, reserve_s=0.0)
    assert time.monotonic() - began < 5
    assert "TooLongError" in results.failures["slow"]
    assert list(results.left_out) == ["as slow"]


def test_a_wrong_figure_is_found() -> None:
    checks = Checks()
    checks.at_most("same", 0.0, 0.0)
    checks.at_most("off", 2.0, 1.0)
    checks.at_most("not a number", float("nan"), 1.0)
    checks.at_least("score", 0.5, 0.4)
    checks.at_least("low", 0.3, 0.4)
    assert [name for name, row in checks.rows.items() if not row["right"]] == ["off", "not a number", "low"]


def test_every_loss_is_compared(tmp_path: Path) -> None:
    checks = Checks()
    losses(Settings(CPU, True, tmp_path, TINY), checks)
    assert all(row["right"] for row in checks.rows.values())
    assert len(checks.rows) == 2 * (8 + 5)


def test_flops_and_utilisation() -> None:
    case = Case("seg_unet", "segmentation", 8, 4, options={"base_filters": 4, "depth": 2})
    layer = nn.Conv2d(3, 5, 3, padding=1, bias=False)
    assert step_flops(layer, case) == 3 * (2 * 8 * 8 * 3 * 5 * 9) * 4
    depthwise = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
    assert step_flops(depthwise, case) == 3 * (2 * 8 * 8 * 3 * 9) * 4
    found = utilisation(case, Measured(seconds=[0.1, 0.2, 0.3]), 0.001)
    assert found["tflops"] == pytest.approx(found["tflop_a_step"] / 0.2, abs=0.01)
    assert matmul_tflops(CPU, size=32, rounds=1) > 0


def test_pictures_are_as_a_camera_gives_them(tmp_path: Path) -> None:
    from PIL import Image

    size = write_jpegs(tmp_path, 5, processes=1)
    paths = sorted(tmp_path.rglob("*.jpg"))
    assert len(paths) == 5 + 8 and 40_000 < size < 150_000
    with Image.open(paths[0]) as picture:
        assert picture.size == (WIDTH, HEIGHT)


def test_what_another_day_is_compared_with() -> None:
    spread = {"median": 0.99, "least": 0.9, "most": 1.1}
    found = {
        "throughput a": {"ratios": {"loupe_to_loop_speed": spread, "loupe_to_loop_time": spread}},
        "matmul_tflops": 700.0,
        "from JPEG files": {"best_share": 0.5},
    }
    assert gpu.ratios_of(found) == {
        "throughput a loupe_to_loop_speed": 0.99,
        "from JPEG files, share_speed": 0.5,
    }


def test_the_five_seed_models_are_there() -> None:
    assert all((ROOT / "configs" / f"{case.name}.yaml").is_file() for case in FULL)
    assert len({case.name for case in FULL}) == 5


def test_missing_wheels_are_named_before_anything_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu, "find_spec", lambda name: None if name == "captum" else object())
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--out", str(tmp_path / "out")])
    assert gpu.main() == 2
    assert "captum" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_script_in_small(tmp_path: Path) -> None:
    words = ["--device", "cpu", "--tiny", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *words],
        cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    kept = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert not kept["failures"] and not kept["left_out"]
    found = kept["found"]
    for name in ("throughput cls_mobilenetv3", "throughput seg_unet"):
        ways = {"loupe", "loop", "torch_loss", "no_compile", "no_channels_last"}
        assert found[name]["ways"].keys() == ways
        assert found[name]["graphs_made_between_windows"] == 0
        assert all(len(way["windows_ms"]) == 2 for way in found[name]["ways"].values())
    assert found["recipe cls_mobilenetv3"]["ways"].keys() == {"loupe", "timm", "timm_no_erasing"}
    assert found["from JPEG files"]["cores_it_would_take"] > 1
    assert (tmp_path / "out" / "gpu_ratios.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing is left behind"
