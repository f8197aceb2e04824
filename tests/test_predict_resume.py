"""`predict` goes on where it stopped: killed, interrupted, with changed, new and unreadable inputs, on two processes,
and never puts earlier predictions aside too early."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from callbacks import PredictionWriter
from tests import processes
from tests.launched import Job, run_together
from tests.tasks import SEGMENTATION, write_task

Loupe = Callable[..., Any]
RUN = Path("runs/seg_unet/version_0")
TABLE = RUN / "predictions" / "predictions.csv"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a trained segmenter."""
    from cli import main

    folder = tmp_path_factory.mktemp("trained")
    write_task("segmentation", folder / "data")
    words = [
        "fit",
        *SEGMENTATION.words,
        f"--data.root={folder / 'data'}",
        f"--run.directory={folder / 'runs'}",
        "training.epochs=6",
        "training.learning_rate=0.02",
    ]
    assert main(words) == 0
    return folder


def pictures(folder: Path, count: int, *, first: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 255, (20 + number % 5, 30, 3), dtype=np.uint8)).save(
            folder / f"{number:03}.png"
        )


@pytest.fixture
def predict(loupe: Loupe, trained: Path) -> Callable[..., Any]:
    """`predict(path, ...)`: the command with a copy of the run; its outcome."""
    shutil.copytree(trained / "runs", "runs")
    pictures(Path("in"), 10)

    def call(path: str = "in", *words: str, code: int = 0) -> Any:
        outcome = loupe(*line(path, *words))
        assert outcome.code == code, outcome.err
        return outcome

    return call


def line(path: str = "in", *words: str) -> list[str]:
    config = f"--config={RUN / 'config.yaml'}"
    small = ["training.batch_size=2", "--data.loader.num_workers=0"]
    return ["predict", config, "--ckpt_path=best", f"--data.predict_path={path}", *small, *words]


def rows(file: Path = TABLE) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def noted(folder: Path = RUN) -> list[str]:
    """The inputs in the journals, in the order in which they came."""
    found = sorted((folder / "predictions" / "journal").glob("*.jsonl"))
    return [
        Path(json.loads(text)["path"]).name for file in found for text in file.read_text().split("\n") if text
    ]


def sidecar() -> dict[str, Any]:
    return json.loads((RUN / "predictions" / "predictions.json").read_text())


def test_a_second_call_reads_nothing_again(
    predict: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = predict()
    assert "10 predictions in " in outcome.out and "images/s)" in outcome.out
    before, journal = TABLE.read_bytes(), noted()
    first = sidecar()
    assert first["complete"] and first["counts"] == {
        "inputs": 10,
        "predicted": 10,
        "unreadable": 0,
        "done_before": 0,
    }
    assert first["class_names"] == ["background", "foreground"] and first["model"]["epoch"] >= 0
    assert len(first["model"]["fingerprint"]) >= 16 and len(first["config_sha256"]) == 64
    TABLE.unlink()
    outcome = predict()
    assert "10 of 10 pictures are done already" in outcome.out and "10 predictions in " in outcome.out
    assert TABLE.read_bytes() == before and noted() == journal
    assert sidecar()["counts"]["done_before"] == 10 and sidecar()["complete"]
    assert not list((RUN / "predictions").rglob(".*"))


def test_changed_new_and_vanished_inputs(predict: Callable[..., Any]) -> None:
    predict()
    before = {row["path"]: row for row in rows()}
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save("in/004.png")
    os.utime("in/004.png", ns=(10**18, 10**18))
    pictures(Path("in"), 2, first=10)
    Path("in/007.png").unlink()
    outcome = predict()
    assert "8 of 11 pictures are done already" in outcome.out
    assert noted()[10:] == ["004.png", "010.png", "011.png"]
    after = {row["path"]: row for row in rows()}
    assert list(after) == [f"in/{n:03}.png" for n in range(12) if n != 7]
    changed = {path for path in after if path in before and after[path] != before[path]}
    assert changed == {"in/004.png"}


def test_another_model_puts_the_earlier_ones_aside_and_only_when_it_can_begin(
    predict: Callable[..., Any],
) -> None:
    predict()
    before = TABLE.read_bytes()
    shutil.copy(RUN / "checkpoints" / "best.ckpt", "other.ckpt")
    import torch

    content = torch.load("other.ckpt", weights_only=True)
    first = next(key for key, value in content["state_dict"].items() if value.is_floating_point())
    content["state_dict"][first] += 1
    torch.save(content, "other.ckpt")
    outcome = predict("absent", "--ckpt_path=other.ckpt", code=2)
    assert TABLE.read_bytes() == before and not (RUN / "predictions_1").exists(), outcome.err
    outcome = predict("in", "--ckpt_path=other.ckpt")
    assert "earlier predictions are in" in outcome.out and "done already" not in outcome.out
    assert (RUN / "predictions_1" / "predictions.csv").read_bytes() == before
    assert TABLE.read_bytes() != before and len(rows()) == 10


def test_unreadable_inputs_are_told_and_tried_again(predict: Callable[..., Any]) -> None:
    good = Path("in/003.png").read_bytes()
    for name, content in (("003.png", b"no picture"), ("008.png", good[:60])):
        Path("in", name).write_bytes(content)
    outcome = predict()
    assert "warning: 2 of 10 pictures could not be read" in outcome.out
    told = rows(RUN / "predictions" / "unreadable.csv")
    assert [row["path"] for row in told] == ["in/003.png", "in/008.png"] and all(
        "in/" in r["reason"] for r in told
    )
    assert len(rows()) == 8 and sidecar()["counts"]["unreadable"] == 2 and sidecar()["complete"]
    outcome = predict()  # nothing but unreadable ones is left: no error
    assert "8 of 10 pictures are done already" in outcome.out and len(rows()) == 8
    Path("in/003.png").write_bytes(good)
    predict()
    assert len(rows()) == 9 and noted().count("003.png") == 1
    assert [row["path"] for row in rows(RUN / "predictions" / "unreadable.csv")] == ["in/008.png"]
    for path in Path("in").iterdir():
        path.write_bytes(b"")
    shutil.rmtree(RUN / "predictions")
    outcome = predict(code=2)
    assert "none of the 10 pictures could be read" in outcome.err and not TABLE.exists()


def test_standard_input_patterns_and_copies(
    predict: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = "in/005.png\r\nin/001.png\n\nin/absent.png\n./in//005.png\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed.encode())))
    outcome = predict("-")
    assert [row["path"] for row in rows()] == ["in/005.png", "in/001.png"]
    assert "1 of 3 pictures could not be read" in outcome.out
    predict("in/00[4-6].png")
    assert [row["path"] for row in rows()] == ["in/004.png", "in/005.png", "in/006.png"]
    assert noted() == ["005.png", "001.png", "004.png", "006.png"], "one was known from the list"


def kill_at_the_third_batch() -> None:
    real = PredictionWriter.on_predict_batch_end

    def dies(
        self: PredictionWriter, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        real(self, trainer, module, outputs, batch, batch_idx)
        if batch_idx == 2:
            for file in (self.folder.path / "journal").glob("*.jsonl"):
                with file.open("ab") as opened:
                    opened.write(b'{"path":"in/00')  # in the middle of a line
            os.kill(os.getpid(), signal.SIGKILL)

    PredictionWriter.on_predict_batch_end = dies  # type: ignore[method-assign]


def test_a_killed_run_goes_on_to_the_same_table(trained: Path, tmp_path: Path) -> None:
    folders = tmp_path / "whole", tmp_path / "killed"
    for folder in folders:
        shutil.copytree(trained / "runs", folder / "runs")
        pictures(folder / "in", 10)
    whole, killed = folders
    assert processes.finish(line(), whole) == 0, processes.printed(whole)
    assert processes.finish(line(), killed, kill_at_the_third_batch) == -signal.SIGKILL
    assert not (killed / TABLE).exists()
    content = (killed / RUN / "predictions" / "predictions.json").read_text()
    assert json.loads(content)["complete"] is False
    assert processes.finish(line(), killed) == 0, processes.printed(killed)
    assert "pictures are done already" in processes.printed(killed)
    assert (killed / TABLE).read_bytes() == (whole / TABLE).read_bytes()
    journals = [p.read_text().split("\n") for p in (killed / RUN / "predictions" / "journal").iterdir()]
    entries = [json.loads(text)["path"] for texts in journals for text in texts if text.endswith("}")]
    assert sorted(entries) == [f"in/{n:03}.png" for n in range(10)], "each input once"


def test_a_full_disk_ends_the_run_and_keeps_what_is_done(
    predict: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from predictions import Outputs

    real, count, lock = Outputs.write, [0], threading.Lock()

    def full(self: Outputs, *args: Any) -> Any:
        with lock:
            count[0] += 1
            if count[0] > 5:
                raise OSError(28, "No space left on device")
        return real(self, *args)

    monkeypatch.setattr(Outputs, "write", full)
    outcome = predict(code=2)
    assert "No space left on device" in outcome.err and "goes on from there" in outcome.err
    assert len(noted()) == 5
    monkeypatch.setattr(Outputs, "write", real)
    assert "5 of 10 pictures are done already" in predict().out and len(rows()) == 10


@pytest.mark.slow  # test_distributed_evaluation.py has two and three processes by default
def test_two_processes_share_go_on_and_say_it_once(trained: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(trained / "runs", tmp_path / name / "runs")
        pictures(tmp_path / name / "in", 7)
        (tmp_path / name / "in" / "005.png").write_bytes(b"no picture")
    two = tmp_path / "two"
    first, rest = [*line(), "--trainer.limit_predict_batches=2"], line()
    outcomes = run_together(
        tmp_path / "out", [Job(first, [str(two)]), Job(rest, [str(two)])], world=2, starter="torchrun"
    )
    for outcome in (o for job in outcomes for o in job):
        assert outcome.code == 0, outcome.err
    assert outcomes[1][0].out.count("4 of 7 pictures are done already") == 1
    assert "predictions" not in outcomes[1][1].out
    assert processes.finish(line(), tmp_path / "one") == 0, processes.printed(tmp_path / "one")
    assert (two / TABLE).read_bytes() == (tmp_path / "one" / TABLE).read_bytes()
    assert [row["path"] for row in rows(two / RUN / "predictions" / "unreadable.csv")] == ["in/005.png"]
    assert sorted(noted(two / RUN)) == [f"{n:03}.png" for n in (0, 1, 2, 3, 4, 6)]


def test_every_output_of_a_segmenter(predict: Callable[..., Any]) -> None:
    with Image.open("in/001.png") as image:
        exif = Image.Exif()
        exif[0x0112] = 6  # stored lying down
        image.save("in/turned.jpg", exif=exif, quality=95)
    wanted = ("probability_maps", "overlays", "coco")
    words = [*(f"--predictions.{key}=true" for key in wanted), "--predictions.table=parquet"]
    predict("in", *words, "--predictions.directory=out")
    out = Path("out")
    table = pq.read_table(out / "predictions.parquet").to_pylist()
    assert len(table) == 11 and not (RUN / "predictions").exists()
    assert list(table[0])[:4] == ["path", "mask", "overlay", "probabilities"]
    coco = json.loads((out / "coco.json").read_text())
    assert [entry["name"] for entry in coco["categories"]] == ["foreground"]
    sizes = {entry["file_name"]: (entry["height"], entry["width"]) for entry in coco["images"]}
    assert sizes["turned.jpg"] == (30, 21)
    for number, row in enumerate(table, 1):
        with Image.open(out / row["mask"]) as mask, Image.open(out / row["overlay"]) as overlay:
            values = np.array(mask)
            assert overlay.format == "JPEG" and max(overlay.size) >= 480
        assert values.shape == sizes[Path(row["path"]).name]
        with np.load(out / row["probabilities"]) as probs:
            assert probs["class_names"].tolist() == ["background", "foreground"]
            assert probs["probs"].shape == (2, *values.shape)
            likely = probs["probs"][1].astype(float)
        assert ((likely > 0.5) == (values == 1))[np.abs(likely - 0.5) > 1e-3].all()
        found = [entry for entry in coco["annotations"] if entry["image_id"] == number]
        assert (
            [entry["area"] for entry in found] == [count]
            if (count := int((values == 1).sum()))
            else not found
        )
        if found:
            assert found[0]["score"] == pytest.approx(likely[values == 1].mean(), abs=2e-3)
    before = (out / "coco.json").read_bytes()
    outcome = predict("in", *words[:-1], "--predictions.directory=out")
    assert "11 of 11 pictures are done already" in outcome.out, "another format of the table needs no model"
    assert (out / "coco.json").read_bytes() == before and len(rows(out / "predictions.csv")) == 11
    assert not (out / "predictions.parquet").exists()
    outcome = predict("in", "--predictions.directory=in", code=2)
    assert "holds files that are no predictions" in outcome.err and len(list(Path("in").iterdir())) == 11
