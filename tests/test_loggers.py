"""Lightning's own loggers beside metrics.csv: each holds the same numbers, and the run directory is the same."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

Loupe = Callable[..., Any]
QUICK = ["training.epochs=2", "training.batch_size=4", "--data.augment.preset=none"]
RUN = Path("runs/seg_unet/version_0")
Scores = dict[str, list[float]]


def own_scores() -> Scores:
    """metrics.csv: name -> a number an epoch."""
    with (RUN / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if "/" in name]
    return {name: [float(row[name]) for row in rows if row[name]] for name in names}


def assert_same(stored: Scores) -> None:
    expected = own_scores()
    assert len(expected["train/loss"]) == 2 and "val/iou" in expected
    for name, values in expected.items():
        assert len(stored.get(name, [])) == len(values), name
        assert stored[name] == pytest.approx(values, rel=1e-6, abs=1e-7), name


def write_loggers(*loggers: tuple[str, dict[str, Any]]) -> str:
    path = Path("loggers.yaml")
    listed = [
        {"class_path": f"lightning.pytorch.loggers.{name}", "init_args": given} for name, given in loggers
    ]
    path.write_text(yaml.safe_dump({"trainer": {"logger": listed}}))
    return f"--config={path}"


def files_of_the_run() -> set[str]:
    """The files that a fit leaves, less what our own TensorBoard writes."""
    kept = {path.relative_to(RUN).as_posix() for path in RUN.rglob("*") if path.is_file()}
    return {name for name in kept if "tfevents" not in name}


def csv_scores(path: Path) -> Scores:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0] if "/" in name}


def test_several_loggers_at_once_hold_the_same_numbers(loupe: Loupe, tiny_words: list[str]) -> None:
    given = write_loggers(("CSVLogger", {"save_dir": "table"}), ("TensorBoardLogger", {"save_dir": "board"}))
    outcome = loupe("fit", *tiny_words, given, *QUICK)
    assert outcome.code == 0, outcome.err
    assert_same(csv_scores(Path("table/lightning_logs/version_0/metrics.csv")))
    events = EventAccumulator("board/lightning_logs/version_0").Reload()
    assert_same({name: [point.value for point in events.Scalars(name)] for name in events.Tags()["scalars"]})
    settings = yaml.safe_load(Path("table/lightning_logs/version_0/hparams.yaml").read_text())
    assert settings["training"]["learning_rate"] == 0.001 and settings["architecture"] == "unet"
    assert settings["data"]["init_args"]["image_size"] == 32 and settings["seed_everything"] == 0
    with_loggers = files_of_the_run()
    assert not list(RUN.rglob("*tfevents*")), "a logger of the user's takes the place of ours"
    outcome = loupe("fit", *tiny_words, *QUICK, "--trainer.logger=false", "--run.directory=plain")
    assert outcome.code == 0, outcome.err
    plain = Path("plain/seg_unet/version_0")
    assert {p.relative_to(plain).as_posix() for p in plain.rglob("*") if p.is_file()} == with_loggers


def test_a_logger_named_on_the_command_line(loupe: Loupe, tiny_words: list[str]) -> None:
    words = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=table", "--trainer.logger.name=mine"]
    outcome = loupe("fit", *tiny_words, *QUICK, *words)
    assert outcome.code == 0, outcome.err
    assert_same(csv_scores(Path("table/mine/version_0/metrics.csv")))


def records(data: bytes) -> Iterator[bytes]:
    """The records of an offline W&B file: LevelDB's log format (blocks of 32 KiB, parts of records) after 7 bytes."""
    block, header, place, parts = 32768, 7, 7, b""
    while place + header <= len(data):
        if block - place % block < header:  # padding
            place += block - place % block
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        parts += data[place + header : place + header + length]
        place += header + length
        if kind in (1, 4):  # a whole record, or its last part
            yield parts
            parts = b""


# wandb 0.31 uses what pydantic and protobuf deprecate; it is the user's choice, and tells none of it without -W.
@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_offline(
    loupe: Loupe, tiny_words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="W&B is no part of an installation; pip install wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_SILENT", "true")
    Path("wandb").mkdir()
    given = write_loggers(("WandbLogger", {"offline": True, "project": "loupe", "save_dir": "wandb"}))
    try:
        outcome = loupe("fit", *tiny_words, given, *QUICK)
        assert outcome.code == 0, outcome.err
    finally:
        import wandb

        wandb.finish()
        wandb.teardown()
    (path,) = Path("wandb").rglob("*.wandb")
    scores: Scores = {}
    settings: dict[str, Any] = {}
    pictures: set[str] = set()
    for data in records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        for item in record.history.item:
            name = item.key or "/".join(item.nested_key)
            value = json.loads(item.value_json)
            if isinstance(value, (dict, list, str)):
                pictures.add(name.partition("/filenames")[0])
            elif "/" in name:
                scores.setdefault(name, []).append(float(value))
        for item in [*record.config.update, *record.run.config.update]:
            settings[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    assert_same(scores)
    assert pictures >= {"train/pictures/augmented", "val/pictures/same", "val/charts/confusion"}
    assert len(list(Path("wandb").rglob("media/images/**/*.png"))) == 1 + 2 * 5
    text = json.dumps(settings)
    assert '"learning_rate": 0.001' in text and '"image_size": 32' in text


# MLflow 3.17 warns of its own parts; and its folder of files needs a word that it is meant.
@pytest.mark.filterwarnings("ignore")
def test_mlflow_in_a_folder(loupe: Loupe, tiny_words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="MLflow is no part of an installation; pip install mlflow-skinny")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store = Path("mlruns").resolve().as_uri()
    given = write_loggers(("MLFlowLogger", {"experiment_name": "loupe", "tracking_uri": store}))
    outcome = loupe("fit", *tiny_words, given, *QUICK)
    assert outcome.code == 0, outcome.err
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("loupe")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    history = {
        name: [point.value for point in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
        if "/" in name
    }
    assert_same(history)
    pictures = {
        entry.path.split("+")[0].split("~", 1)[1]
        for entry in client.list_artifacts(run.info.run_id, "images")
    }
    assert pictures >= {"pictures~augmented", "pictures~same", "pictures~worst", "charts~confusion"}
    assert run.data.params["training/learning_rate"] == "0.001"
    assert run.data.params["data/init_args/image_size"] == "32"
