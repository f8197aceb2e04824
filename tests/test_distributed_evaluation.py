"""Each sample counts once on 1, 2 and 3 processes, which SLURM or Vertex AI started; prediction files are the same."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from callbacks.prediction_writer import refuse_miscount
from errors import LoupeError
from tests.launched import Job, Outcome, run_alone, run_together
from tests.tasks import SIZE, TASKS, Task, draw, write_task

#: 5 in batches of 2: shares of one picture and of none; 1: nobody but the first process has any.
COUNTS = (5, 1)
#: Task, pictures, command; 0 pictures: five, one of which cannot be read.
JOBS = (
    ("segmentation", 5, "test"),
    ("segmentation", 5, "predict"),
    ("segmentation", 1, "test"),
    ("classification", 5, "test"),
    ("classification", 5, "predict"),
    ("classification", 1, "predict"),
    ("classification", 0, "predict"),
    ("cropping", 5, "test"),
)
MORE = tuple(
    job for job in itertools.product(TASKS, COUNTS, ("validate", "test", "predict")) if job not in JOBS
)
WORLDS = {1: "", 2: "slurm", 3: "vertex"}


def write_parts(task: Task, root: Path, count: int) -> Path:
    """The data of `write_task`, less what is more than ``count`` pictures to validate and test."""
    import csv

    if task.name == "cropping":
        write_task(task.name, root)
        with (root / "manifest.csv").open(newline="") as file:
            header, *rows = list(csv.reader(file))
        kept = [row for row in rows if row[5] == "train"]
        for part in ("val", "test"):
            for path in root.glob(f"{part}_*.png"):
                path.unlink()
            for number in range(count):
                picture, box = draw(100 + number)
                _save(picture, root / f"{part}_{number}.png")
                kept.append([f"{part}_{number}.png", *map(str, box), part])
        (root / "manifest.csv").write_text("\n".join(",".join(row) for row in [header, *kept]) + "\n")
        return root
    write_task(task.name, root)
    for part in ("val", "test"):
        shutil.rmtree(root / part)
        for number in range(count):
            picture, box = draw(100 + number)
            if task.name == "classification":
                _save(picture, root / part / ("left" if number % 2 else "right") / f"{number}.png")
                continue
            mask = picture[..., 0] * 0
            mask[box[1] : box[3], box[0] : box[2]] = 1
            mask[: number + 1, 20:] = 255  # another number of pixels counts in each picture
            _save(picture, root / part / "images" / f"{number}.png")
            _save(mask, root / part / "masks" / f"{number}.png")
    return root


def _save(array: Any, path: Path) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


class Evaluations:
    """Every command of every task, on every number of processes."""

    def __init__(self, folder: Path, asked: tuple[tuple[str, int, str], ...]) -> None:
        from cli import main

        self.folder = folder
        # Rounded to six places float32 could differ: a convolution of one picture adds up in another order.
        exact = ("--trainer.precision=64-true", "--training.tensorboard=false", "--training.batch_size=2")
        self.jobs: list[tuple[str, int, str]] = []
        words: list[list[str]] = []
        broken = folder / "with_a_broken_one"
        for name, task in TASKS.items():
            run = folder / "runs" / name
            data = {count: write_parts(task, folder / f"{name}_{count}", count) for count in COUNTS}
            fit = ["fit", *task.words, *exact, f"--data.root={data[5]}", "--training.batch_size=4"]
            assert main([*fit, f"--run.directory={run.parent}", f"--run.name={name}"]) == 0
            for count in COUNTS:
                for command in [c for n, k, c in asked if (n, k) == (name, count)]:
                    pictures = sorted(
                        path
                        for path in data[count].rglob("*.png")
                        if "test" in path.relative_to(data[count]).as_posix() and "masks" not in path.parts
                    )
                    assert len(pictures) == count
                    given = folder / f"{name}_{count}_pictures"
                    if not given.exists():
                        given.mkdir()
                        for number, path in enumerate(pictures):
                            shutil.copy(path, given / f"{number}.png")
                    extra = [f"--data.predict_path={given}"] if command == "predict" else []
                    self.jobs.append((name, count, command))
                    words.append(
                        [
                            command,
                            *task.words,
                            *exact,
                            f"--data.root={data[count]}",
                            *extra,
                            "--ckpt_path=last",
                        ]
                    )
        if ("classification", 0, "predict") in asked:
            shutil.copytree(folder / "classification_5_pictures", broken)
            (broken / "3.png").write_bytes(b"no picture")
            skips = [f"--data.predict_path={broken}", "--data.read.on_error=skip", "--ckpt_path=last"]
            self.jobs.append(("classification", 0, "predict"))
            words.append(["predict", *TASKS["classification"].words, *exact, *skips])
        self.outcomes: dict[int, list[list[Outcome]]] = {}
        for world, starter in WORLDS.items():
            jobs: list[Job] = []
            for number, ((name, _, _), line) in enumerate(zip(self.jobs, words, strict=True)):
                at = self.place(world, number)
                shutil.copytree(folder / "runs" / name / "version_0", at)
                jobs.append(
                    Job([*line, f"--run.directory={at.parent.parent}", f"--run.name={name}"], [str(folder)])
                )
            results = folder / f"world_{world}"
            if world == 1:
                self.outcomes[1] = [[outcome] for outcome in run_alone(results, jobs)]
            else:
                self.outcomes[world] = run_together(results, jobs, world=world, starter=starter)

    def place(self, world: int, number: int) -> Path:
        return self.folder / f"world_{world}" / f"runs_{number}" / self.jobs[number][0] / "version_0"

    def files(self, world: int, job: tuple[str, int, str]) -> dict[str, bytes]:
        """What the command left, by name."""
        number = self.jobs.index(job)
        for outcome in self.outcomes[world][number]:
            assert outcome.code == 0, outcome.err
        run, command = self.place(world, number), job[2]
        made = [
            *run.glob(f"{command}*.json"),
            *run.glob(f"{command}*.csv"),
            *(run / "predictions").rglob("*"),
        ]
        # these say when, and which process did what
        kept = [path for path in made if path.name != "predictions.json" and path.suffix != ".jsonl"]
        return {path.relative_to(run).as_posix(): path.read_bytes() for path in kept if path.is_file()}


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> Evaluations:
    return Evaluations(tmp_path_factory.mktemp("evaluations"), JOBS)


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Evaluations:
    return Evaluations(tmp_path_factory.mktemp("more"), MORE)


def assert_same_records(alone: Path, shared: Path) -> None:
    """Sample by sample in the order of ``index``, and the same worst pictures, whoever had them."""
    with np.load(alone) as ours, np.load(shared) as theirs:
        assert set(ours.files) == set(theirs.files)
        order = [record["index"].argsort() for record in (ours, theirs)]
        about = [json.loads(str(record["meta"]))["worst"] for record in (ours, theirs)]
        worst = [
            {Path(entry["file"]).name: (entry["caption"], number) for number, entry in enumerate(entries)}
            for entries in about
        ]
        assert len(worst[0]) == len(order[0]), "each of so few is among the worst"
        figures = [[entry["figure"] for entry in entries] for entries in about]
        assert figures[0] == pytest.approx(figures[1], rel=1e-6)
        for name, (caption, number) in worst[0].items():  # of equally bad ones any may come first
            other, place = worst[1][name]
            assert other == caption
            np.testing.assert_array_equal(ours[f"worst_{number:02d}"], theirs[f"worst_{place:02d}"])
        for key in set(ours.files) - {"meta", "confusion", "reliability"}:
            if not key.startswith("worst_"):
                one, two = ours[key][order[0]], theirs[key][order[1]]
                np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-9, err_msg=key)


def assert_the_same(found: Evaluations, job: tuple[str, int, str], world: int) -> None:
    """Prediction files byte for byte, tables of counts too; scores as far as float64 adds up in another order."""
    _, count, command = job
    alone, shared = found.files(1, job), found.files(world, job)
    if command == "predict":
        assert alone["predictions/predictions.csv"].count(b"\n") == (count or 4) + 1
    else:
        ours, theirs = (json.loads(files.pop(f"{command}.json"))["scores"] for files in (alone, shared))
        assert ours
        # An absent score is null.
        assert [name for name, value in ours.items() if value is None] == [
            name for name, value in theirs.items() if value is None
        ]
        assert {k: v for k, v in ours.items() if v is not None} == pytest.approx(
            {k: v for k, v in theirs.items() if v is not None}, rel=1e-12, abs=1e-12
        )
        places = [found.place(number, found.jobs.index(job)) for number in (1, world)]
        assert_same_records(*(place / "evaluation" / f"{command}.npz" for place in places))
    assert alone == shared


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("job", JOBS, ids=str)
def test_each_sample_counts_once(evaluations: Evaluations, job: tuple[str, int, str], world: int) -> None:
    assert_the_same(evaluations, job, world)


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("job", MORE, ids=str)
def test_each_sample_counts_once_in_the_other_commands(
    more: Evaluations, job: tuple[str, int, str], world: int
) -> None:
    assert_the_same(more, job, world)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_what_cannot_be_read_is_not_missed(evaluations: Evaluations, world: int) -> None:
    files = evaluations.files(world, ("classification", 0, "predict"))
    rows = files["predictions/predictions.csv"].decode().splitlines()[1:]
    assert [Path(row.split(",")[0]).name for row in rows] == ["0.png", "1.png", "2.png", "4.png"]


@pytest.mark.parametrize(
    ("world", "launcher"), [(2, "SLURM: 2 nodes x 1 processes"), (3, "Vertex AI: 3 nodes")]
)
def test_the_first_process_speaks_for_all(evaluations: Evaluations, world: int, launcher: str) -> None:
    first, *others = evaluations.outcomes[world][0]
    assert f"{launcher}, strategy ddp\n" in first.out
    assert [other.out for other in others] == [""] * (world - 1)


@pytest.mark.parametrize(
    ("indices", "message"),
    [([0, 1, 3], "of 4 pictures 1 has no"), ([0, 1, 2, 3, 3], "1 has more than"), ([], "4 have no")],
)
def test_a_miscount_is_an_error(indices: list[int], message: str) -> None:
    with pytest.raises(LoupeError, match=message):
        refuse_miscount(indices, 4, ())


def test_a_part_of_the_predictions_was_asked_for(evaluations: Evaluations, tmp_path: Path) -> None:
    """`trainer.limit_predict_batches` leaves pictures out on purpose."""
    number = evaluations.jobs.index(("classification", 5, "predict"))
    run = shutil.copytree(evaluations.place(1, number), tmp_path / "runs" / "classification" / "version_0")
    shutil.rmtree(run / "predictions")  # which would be gone on from
    pictures = evaluations.folder / "classification_5_pictures"
    words = ["predict", *TASKS["classification"].words, "--training.batch_size=2", "--ckpt_path=last"]
    limit = [
        "--trainer.limit_predict_batches=2",
        f"--data.predict_path={pictures}",
        f"--data.image_size={SIZE}",
    ]
    (outcome,) = run_alone(
        tmp_path / "out", [Job([*words, *limit, "--run.name=classification"], [str(tmp_path)])]
    )
    assert outcome.code == 0, outcome.err
    assert (run / "predictions" / "predictions.csv").read_text().count("\n") == 5
