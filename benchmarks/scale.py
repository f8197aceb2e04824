"""How the cost of a step, of the start and of an evaluation grows.

    python benchmarks/scale.py [--quick 1] [--rounds 3] [--only SERIES,SERIES] [--out FOLDER]

Series: batch, classes, size (of pictures), workers, processes, files, masks (their number) and evaluation.
Each point is a process of its own (benchmarks/scale_point.py), the points of a series in turn, `rounds` times, medians.
Steps are those of `train.py fit` with its defaults less TensorBoard, on one compute thread; their time is CPU time, so
that other work on the machine counts little (on a GPU: elapsed). With workers or processes it is elapsed time, which
says something only where there are cores for all of them. Memory is what was added after the start of the training, and
the peak of the process. `--quick 1` takes few and small points, to see that all of it works.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.scale_files import class_folders, manifest, mask_folders, photo  # noqa: E402
from benchmarks.scale_jobs import (  # noqa: E402
    CLASSIFIER,
    COMMON,
    SEGMENTER,
    Job,
    Point,
    exponent,
    line,
    of,
    series,
    with_classes,
)
from benchmarks.timing import RESULTS, arguments, keep  # noqa: E402


class Bench:
    """All series, and what they found.

    Args:
        folder: for the data and for what the processes write.
        quick: few and small points.
        rounds: how often each point is measured.
    """

    def __init__(self, folder: Path, *, quick: bool, rounds: int) -> None:
        self.folder, self.quick, self.rounds = folder, quick, rounds
        self.figures: dict[str, float] = {}
        self.points: dict[str, dict[int, Point]] = {}

    def keep(self, name: str, jobs: Mapping[int, Job]) -> dict[int, Point]:
        """Measure a series."""
        found = self.points[name] = series(jobs, self.folder, self.rounds)
        print(name)
        for at, point in found.items():
            print(
                f"  {at:>9g}  " + "  ".join(f"{key} {value:,.1f}" for key, value in point.items()), flush=True
            )
        return found

    def steps(self, task: str, *, batch: int, classes: int, size: int, steps: int = 12) -> Job:
        """Training steps on a batch that stays."""
        few = max(100, batch)
        if task == "classification":
            data = self._made(f"cls_{few}", lambda path: class_folders(path, 20 * few, classes=10))
            words, classes = list(CLASSIFIER), max(10, classes)
        else:
            name = f"seg_{few}_{size}_{classes}"
            data = self._made(
                name, lambda path: mask_folders(path, few, side=size, classes=min(classes, 200), parts=True)
            )
            words = list(SEGMENTER)
        words += [*COMMON, f"--data.root={data}", f"--data.image_size={size}", "--data.loader.num_workers=0"]
        named = with_classes(self.folder, classes)
        return Job("steps", [*words, named, f"--training.batch_size={batch}", f"--scale.steps={steps}"])

    def batch(self) -> None:
        sizes = (2, 4) if self.quick else (1, 4, 16, 64, 128)
        for task, side in (("classification", 64), ("segmentation", 64)):
            asked = [size for size in sizes if size > 1 or task == "segmentation"]  # batch norm needs two
            jobs = {size: self.steps(task, batch=size, classes=2, size=side) for size in asked}
            found = self.keep(f"batch {task}", jobs)
            self.figures[f"batch {task}: growth of a step"] = exponent(of(found, "step_ms"))
            large = dict(list(of(found, "step_ms").items())[-3:])
            self.figures[f"batch {task}: growth of a step, three largest"] = exponent(large)

    def classes(self) -> None:
        for task, counts, side, batch in (
            ("segmentation", (2, 20, 200), 128, 4),
            ("classification", (10, 100, 1000), 64, 32),
        ):
            counts = counts[:2] if self.quick else counts
            small = 32 if self.quick else side
            jobs = {k: self.steps(task, batch=batch, classes=k, size=small) for k in counts}
            found = self.keep(f"classes {task}", jobs)
            first, *_, last = found.values()
            self.figures[f"classes {task}: step of {counts[-1]} to {counts[0]}"] = (
                last["step_ms"] / first["step_ms"]
            )
            if task == "segmentation":
                more = (last["added_mb"] - first["added_mb"]) * 1e6
                logits = 4 * batch * small * small * (counts[-1] - counts[0])
                self.figures["classes segmentation: memory added, in logits"] = more / logits

    def size(self) -> None:
        sides = (32, 64) if self.quick else (64, 128, 256, 512)
        for task in ("classification", "segmentation"):
            jobs = {side: self.steps(task, batch=4, classes=2, size=side) for side in sides}
            found = self.keep(f"size {task}", jobs)
            for what, figure in (("a step", "step_ms"), ("memory", "added_mb")):
                pixels = {side * side: value for side, value in list(of(found, figure).items())[-3:]}
                self.figures[f"size {task}: growth of {what} with pixels"] = exponent(pixels)

    def _reading(self, *, workers: int, batch: int, processes: int = 1) -> Job:
        data = self._made("photos", self._photos)
        left_out = 2 if self.quick else 8
        strategy = ["--trainer.strategy=ddp", f"--trainer.devices={processes}"] if processes > 1 else []
        return Job(
            "loader",
            [
                *CLASSIFIER,
                *COMMON,
                f"--data.root={data}",
                "--data.image_size=96",
                f"--data.loader.num_workers={workers}",
                f"--training.batch_size={batch}",
                "--trainer.accelerator=cpu",
                *strategy,
                f"--scale.left_out={left_out}",
            ],
            processes,
        )

    def _photos(self, path: Path) -> Path:
        for part, count in (("train", 100 if self.quick else 480), ("val", 4)):
            for number in range(count):
                file = path / part / f"class_{number % 2}" / f"{number}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                photo(500, 375, file, number % 16)
        return path

    def workers(self) -> None:
        jobs = {count: self._reading(workers=count, batch=16) for count in (0, 1, 2)}
        found = of(self.keep("workers", jobs), "elapsed_ms")
        for count in (1, 2):
            self.figures[f"workers: step of {count} to 0"] = found[count] / found[0]

    def processes(self) -> None:
        counts = (1, 2) if self.quick else (1, 2, 3, 4)
        batch = 24 if not self.quick else 8
        jobs = {count: self._reading(workers=0, batch=batch, processes=count) for count in counts}
        found = self.keep("processes", jobs)
        for count in counts[1:]:
            self.figures[f"processes: CPU time of {count} to 1"] = (
                found[count]["step_ms"] / found[1]["step_ms"]
            )
            faster = found[1]["elapsed_ms"] / found[count]["elapsed_ms"]
            self.figures[f"processes: efficiency of {count}_speed"] = faster / count

    def files(self) -> None:
        counts = (1000, 2000, 3000) if self.quick else (1000, 100_000, 1_000_000)
        roots = {n: self._made(f"files_{n}", lambda path, n=n: class_folders(path, n)) for n in counts}
        for kind, root_of in (
            ("folders", lambda n: roots[n]),
            ("manifest", lambda n: self._manifest(roots[n])),
        ):
            words = [*CLASSIFIER, *COMMON, "--data.image_size=32", "--data.loader.num_workers=0"]
            few = ["--training.batch_size=8", "--trainer.limit_train_batches=2"]
            jobs = {n: Job("first_step", [*words, *few, f"--data.root={root_of(n)}"]) for n in counts}
            found = self.keep(f"files {kind}", jobs)
            per_file = line(of(found, "cpu_s"))[1]
            self.figures[f"files {kind}: a million, in starts of {counts[0]}"] = (
                1e6 * per_file / found[counts[0]]["cpu_s"]
            )
            self.figures[f"files {kind}: memory a file, kB"] = line(of(found, "added_mb"))[1] * 1000
        batches = 4 if self.quick else 400
        jobs = {
            n: Job("workers_memory", [f"--data.root={roots[n]}", f"--scale.batches={batches}"])
            for n in counts[1:]
        }
        found = self.keep("files of a worker", jobs)
        first, *_, last = found.values()
        figure = f"after_{batches}_batches"
        self.figures["files: a worker's own memory, most to fewest"] = last[figure] / first[figure]

    def masks(self) -> None:
        counts = (100, 200) if self.quick else (1000, 10_000, 100_000)
        words = [*SEGMENTER, *COMMON, "--data.image_size=32", "--data.loader.num_workers=0"]
        few = ["--training.batch_size=8", "--trainer.limit_train_batches=2"]
        jobs: dict[int, Job] = {}
        for n in counts:
            root = self._made(f"masks_{n}", lambda path, n=n: mask_folders(path, n))
            jobs[n] = Job("first_step", [*words, *few, f"--data.root={root}"])
        rounds, self.rounds = self.rounds, 1  # a first look is there once
        first = self.keep("masks first look", jobs)
        self.rounds = rounds
        again = self.keep("masks again", jobs)
        for name, found in (("first look", first), ("again", again)):
            self.figures[f"masks {name}: a million, in starts of {counts[0]}"] = (
                1e6 * line(of(found, "cpu_s"))[1] / again[counts[0]]["cpu_s"]
            )
            self.figures[f"masks {name}: memory a file, kB"] = line(of(found, "added_mb"))[1] * 1000

    def evaluation(self) -> None:
        side, batch = (64, 2) if self.quick else (512, 2)
        jobs: dict[int, Job] = {}
        for k in (2, 20) if self.quick else (2, 20, 200):
            name = f"eval_{side}_{k}"
            data = self._made(
                name, lambda path, k=k: mask_folders(path, 12, side=side, classes=k, parts=True)
            )
            work = self.folder / f"{name}_fit"
            work.mkdir()
            words = [*SEGMENTER, f"--data.root={data}", f"--data.image_size={side}", "--training.pictures=0"]
            words += ["--data.loader.num_workers=0", f"--training.batch_size={batch}", "--training.epochs=1"]
            words += [
                "--trainer.num_sanity_val_steps=0",
                f"--run.name={name}",
                "--training.tensorboard=false",
            ]
            fit = [sys.executable, str(ROOT / "train.py"), "fit", *words, "--trainer.limit_train_batches=1"]
            subprocess.run(fit, cwd=work, check=True, capture_output=True)
            jobs[k] = Job("evaluation", [*words, f"--ckpt_path={next(work.rglob('last.ckpt'))}"])
        found = self.keep("evaluation segmentation", jobs)
        least, *_, most = jobs
        logits_mb = {k: 4 * batch * side * side * k / 1e6 for k in jobs}
        more = found[most]["added_mb"] - found[least]["added_mb"]
        self.figures["evaluation: memory added, in logits"] = more / (logits_mb[most] - logits_mb[least])
        self.figures[f"evaluation: batch of {most} to {least} classes"] = (
            found[most]["step_ms"] / found[least]["step_ms"]
        )

    def _manifest(self, root: Path) -> Path:
        file = root.with_suffix(".csv")
        return file if file.exists() else manifest(root)

    def _made(self, name: str, make: Callable[[Path], Path]) -> Path:
        path = self.folder / name
        if not path.exists():
            return make(path)
        return path / "data" if (path / "data").exists() else path


SERIES = ("batch", "classes", "size", "workers", "processes", "files", "masks", "evaluation")


def main(only: Sequence[str], *, quick: bool, rounds: int, results: Path = RESULTS) -> dict[str, Any]:
    """Measure these series and write scale.json; series of an earlier one that are not among them stay."""
    unknown = [name for name in only if name not in SERIES]
    if unknown:
        raise SystemExit(f"--only: no series {unknown[0]}; there are {', '.join(SERIES)}")
    old: dict[str, Any] = {"figures": {}, "about": {"points": {}}}
    file = results / "scale.json"
    if file.is_file() and set(only) != set(SERIES):
        old = json.loads(file.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), quick=quick, rounds=rounds)
        for name in only:
            getattr(bench, name)()
    for name, figure in bench.figures.items():
        print(f"  {name:<64} {figure:8.3f}")
    points = {**old["about"]["points"], **bench.points}
    about = {"quick": quick, "rounds": rounds, "points": points}
    keep("scale", {**old["figures"], **bench.figures}, about=about, folder=results)
    return {"figures": bench.figures, **about}


if __name__ == "__main__":
    asked, rest = arguments(__doc__, quick=0, only=",".join(SERIES), rounds=3)
    if rest:
        raise SystemExit(f"unknown: {' '.join(rest)}")
    main(asked.only.split(","), quick=bool(asked.quick), rounds=asked.rounds, results=Path(asked.out))
