"""`auto`: a number that is found before the fit, changes it, and stands in its config like one that was given."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import finders.process
from finders.learning_rate import keep_ratios, steepest
from finders.memory import largest
from tests import processes
from tests.fitting import CONFIG, ROOT, SMALL, Fit, Fitter, options, write_pictures
from tests.launched import as_slurm, as_torchrun, free_port


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("finders"), {"train": 12, "val": 2})


@pytest.fixture(autouse=True)
def prepared_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search starts from a process that has imported everything: half a second instead of ten."""
    monkeypatch.setattr(finders.process, "CONTEXT", processes._CONTEXT)


def words(data: Path, *more: str) -> list[str]:
    return ["fit", f"--config={CONFIG}", *SMALL, f"--data.root={data}", options(), *more]


def settings(run: Path) -> dict[str, Any]:
    return yaml.safe_load((run / "config.yaml").read_text())["training"]


def assert_same(one: Fit, other: Fit) -> None:
    ours, theirs = one.checkpoint()["state_dict"], other.checkpoint()["state_dict"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert one.rows == other.rows


# --- the numbers take effect ---


def test_a_learning_rate_that_was_found_is_as_one_that_was_given(fit: Fitter, data: Path) -> None:
    found = fit(data, "training.learning_rate=auto")
    rate = settings(found.run)["learning_rate"]
    assert f"training.learning_rate: auto found {rate:g}\n" in found.printed
    assert isinstance(rate, float) and 1e-4 < rate < 0.5 and rate != 1e-3
    assert max(found.probe.rates) == rate
    content = found.checkpoint()
    assert content["hyper_parameters"]["training"]["learning_rate"] == rate
    assert content["config"]["training"]["learning_rate"] == rate
    assert f"adamw {rate:g}" in found.printed
    assert_same(found, fit(data, f"training.learning_rate={rate}"))

    again = fit(data, "run.name=again", config=found.run / "config.yaml")
    assert "auto" not in again.printed
    assert_same(found, again)


def test_the_largest_batch_is_all_samples_where_memory_is_not_short(fit: Fitter, data: Path) -> None:
    found = fit(data, "--training.batch_size=auto", "training.accumulate=2")
    assert "training.batch_size: auto found 12\n" in found.printed
    assert settings(found.run)["batch_size"] == 12 and settings(found.run)["accumulate"] == 2
    assert [len(batch["index"]) for batch in found.probe.batches] == [6, 6]


def test_one_micro_batch_where_memory_is_not_short(fit: Fitter, data: Path) -> None:
    found = fit(data, "training.accumulate=auto", "training.ema=true")
    assert "training.accumulate: auto found 1\n" in found.printed
    assert settings(found.run)["accumulate"] == 1 and settings(found.run)["batch_size"] == 4


def test_going_on_takes_what_was_found(fit: Fitter, data: Path) -> None:
    asked = ("training.learning_rate=auto", "training.batch_size=auto")
    first = fit(data, *asked)
    rate = settings(first.run)["learning_rate"]
    assert settings(first.run)["batch_size"] == 12
    later = fit(data, *asked, "--ckpt_path=last", "training.epochs=2", config=first.run / "config.yaml")
    assert "auto found" not in later.printed and "learning_rate:" not in later.printed
    assert settings(first.run)["learning_rate"] == rate  # one run, one folder
    assert settings(first.run)["epochs"] == 2
    assert len(later.probe.batches[0]["index"]) == 12


# --- real shortage ---


class Short:
    """In a new process: little more address space than is in use, and searches forked from there."""

    def __init__(self, room_mib: int) -> None:
        self.room_mib = room_mib

    def __call__(self) -> None:
        import timm  # noqa: F401  what is imported later takes room too

        import cli.search  # noqa: F401

        torch.set_num_threads(1)
        finders.process.CONTEXT = multiprocessing.get_context("fork")
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        limit = used + self.room_mib * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def of_short_memory(data: Path, folder: Path, *more: str) -> tuple[str, Path]:
    command = words(
        data,
        "--data.image_size=160",
        "--model.options={base_filters: 8, depth: 2}",
        "training.pictures=0",
        *more,
    )
    code = processes.finish(command, folder, Short(400))
    printed = processes.printed(folder)
    assert code == 0, printed[-3000:]
    (run,) = (folder / "runs" / "seg_unet").iterdir()
    return printed, run


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("many"), {"train": 32, "val": 2})


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_a_batch_as_large_as_memory_allows(many: Path, tmp_path: Path) -> None:
    printed, run = of_short_memory(many, tmp_path / "found", "training.batch_size=auto")
    size = settings(run)["batch_size"]
    assert f"training.batch_size: auto found {size}\n" in printed
    assert 1 < size < 32
    command = words(
        many, "--data.image_size=160", "--model.options={base_filters: 8, depth: 2}", "training.pictures=0"
    )
    assert processes.finish([*command, "training.batch_size=32"], tmp_path / "all", Short(400)) == 1
    assert "can't allocate memory" in processes.printed(
        tmp_path / "all"
    ) or "could not create a primitive" in (processes.printed(tmp_path / "all"))


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_micro_batches_where_a_step_does_not_fit(many: Path, tmp_path: Path) -> None:
    asked = ("training.batch_size=32", "training.loss=categorical_crossentropy")
    printed, run = of_short_memory(many, tmp_path / "found", *asked, "training.accumulate=auto")
    parts = settings(run)["accumulate"]
    assert f"training.accumulate: auto found {parts}\n" in printed
    assert parts > 1 and 32 % parts == 0 and settings(run)["batch_size"] == 32
    _, other = of_short_memory(many, tmp_path / "given", *asked, f"training.accumulate={parts}")
    ours, theirs = (
        torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for path in (run, other)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# --- several processes ---


@pytest.mark.slow
def test_the_first_process_searches_for_all(data: Path, tmp_path: Path) -> None:
    command = words(data, "training.learning_rate=auto", "training.batch_size=auto", "--trainer.devices=2")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MASTER_PORT": str(free_port()),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *command, "--trainer.strategy=ddp"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("auto found") == 2
    (run,) = (tmp_path / "runs" / "seg_unet").iterdir()
    assert settings(run)["batch_size"] == 12  # 6 for each
    assert f"auto found {settings(run)['learning_rate']:g}\n" in done.stdout


@pytest.mark.parametrize("environment", [as_torchrun(0, 2, 1), as_slurm(0, 2, 1)], ids=["torchrun", "slurm"])
def test_processes_of_a_launcher_are_refused(fit: Fitter, data: Path, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        fit.monkeypatch.setenv(name, value)
    error = fit.fails(data, "training.learning_rate=auto")
    assert "training.learning_rate: auto is searched for by one process" in error
    assert "find it once on one device" in error


def test_what_was_handed_on_is_for_processes_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from cli.auto_numbers import handed_on

    told = {"by": os.getppid(), "found": {"learning_rate": 0.1}}
    assert handed_on({"LOUPE_FOUND": json.dumps(told)}) == {"learning_rate": 0.1}
    assert handed_on({"LOUPE_FOUND": json.dumps({**told, "by": os.getpid()})}) is None
    assert handed_on({}) is None


# --- mistakes, and commands that do not search ---


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("training.batch_size=auto", "training.accumulate=auto"), "training.batch_size: it is auto, and"),
        (("--training.batch_size=otto",), "training.batch_size: expected a whole number above 0 or auto"),
        (("training.learning_rate=otto",), "training.learning_rate: expected a number above 0 or auto"),
        (("training.accumulate=0",), "training.accumulate: expected a whole number above 0 or auto"),
        (("training.batch_size=auto", "data.loader.batch_size=4"), "two names of one value"),
        (("training.learning_rate=auto", "training.monitor=val/beauty"), "training.monitor"),
        (("training.learning_rate=auto", "--data.root=nowhere"), "nowhere"),
    ],
)
def test_mistakes(fit: Fitter, data: Path, flags: tuple[str, ...], message: str) -> None:
    assert message in fit.fails(data, *flags)
    assert not Path("runs").exists()


def test_a_search_that_fails_leaves_nothing(fit: Fitter, data: Path, tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "broken", {"train": 12, "val": 2})
    (root / "train" / "images" / "03.png").write_bytes(b"none")
    fit.monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    assert "03.png" in fit.fails(root, "training.learning_rate=auto")
    assert not Path("runs").exists() and not any((tmp_path / "temporary").iterdir())
    assert multiprocessing.active_children() == []


def _with_temporary_files_in(folder: Path) -> None:
    os.setsid()  # a group of its own, as a shell or a scheduler makes it
    # ignored where the tests run in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)


@pytest.mark.parametrize(
    ("number", "end"),
    [
        (signal.SIGTERM, os.kill),
        (signal.SIGTERM, os.killpg),
        (signal.SIGKILL, os.kill),
        (signal.SIGINT, os.kill),
        (signal.SIGINT, os.killpg),
    ],
    ids=["terminated", "all-terminated", "killed", "interrupted", "all-interrupted"],
)
def test_a_search_that_is_ended_leaves_nothing(
    data: Path, tmp_path: Path, number: int, end: Callable[[int, int], None]
) -> None:
    """Whether the process that searches is told too, or sees that nobody waits for it any more."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    running = processes.start(
        words(data, "training.learning_rate=auto"),
        tmp_path / "in",
        partial(_with_temporary_files_in, temporary),
    )
    until = time.monotonic() + 120
    while not any(temporary.glob("loupe-search-*/*")) and running.is_alive() and time.monotonic() < until:
        time.sleep(0.01)
    assert any(temporary.glob("loupe-search-*/*")), processes.printed(tmp_path / "in")
    assert running.pid is not None
    end(running.pid, number)
    running.join(60)
    assert running.exitcode == (130 if number == signal.SIGINT else -number)
    until = time.monotonic() + 60
    while any(temporary.glob("loupe-search-*")) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(temporary.glob("loupe-search-*"))
    assert not (tmp_path / "in" / "runs").exists()


def test_no_rate_is_better_than_a_random_one(fit: Fitter, data: Path) -> None:
    still = ("training.optimizer=sgd", "training.gradient_clip=1e-9")  # the weights stay where they are
    assert "give a number" in fit.fails(data, "training.learning_rate=auto", *still)


@pytest.mark.parametrize(
    ("key", "word"),
    [
        ("--data.loader.batch_size", "training.batch_size: auto found 12\n"),
        ("--trainer.accumulate_grad_batches", "training.accumulate: auto found 1\n"),
    ],
)
def test_other_names_of_the_same_numbers(loupe: Callable[..., Any], data: Path, key: str, word: str) -> None:
    command = [flag for flag in words(data) if "batch_size" not in flag]
    assert word in loupe(*command, f"{key}=auto").out
    outcome = loupe(*command, f"{key}=otto")
    assert outcome.code == 2
    assert f"{word.partition(':')[0]}: expected a whole number above 0 or auto, got 'otto'" in outcome.err


def test_the_setting_is_shown_as_it_is(
    loupe: Callable[..., Any], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        loupe(*words(data, "training.batch_size=auto", "--print_config"))
    assert "  batch_size: auto\n" in capsys.readouterr().out


def test_later_layers_win_and_evaluation_takes_the_checkpoints(
    fit: Fitter, loupe: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    (tmp_path / "auto.yaml").write_text(
        "trainer: {accumulate_grad_batches: auto}\ntraining: {learning_rate: auto}\n"
    )
    given = fit(data, "--config=auto.yaml", "training.accumulate=2", "training.learning_rate=2e-3")
    assert "auto" not in given.printed
    checkpoint = f"--ckpt_path={given.run}/checkpoints/last.ckpt"
    command = ["validate", *words(data, "training.batch_size=auto", checkpoint)[1:]]
    outcome = loupe(*command)
    assert outcome.code == 0 and "auto found" not in outcome.out, outcome.err


def test_check_takes_the_defaults(loupe: Callable[..., Any], data: Path) -> None:
    outcome = loupe("check", *words(data, "training.batch_size=auto", "training.learning_rate=auto")[1:])
    assert "auto found" not in outcome.out and outcome.err == ""


# --- the arithmetic ---


@pytest.mark.parametrize("unit", [1, 2])
@pytest.mark.parametrize("most", [1, 2, 7, 8, 100, 4096])
def test_the_largest_that_fits(most: int, unit: int) -> None:
    for room in range(0, most + 2):
        tried: list[int] = []

        def fits(size: int, room: int = room, tried: list[int] = tried) -> bool:
            tried.append(size)
            return size <= room

        found = largest(fits, most - most % unit, unit=unit) if most >= unit else None
        if most < unit:
            continue
        assert len(tried) == len(set(tried)) <= 25
        assert all(unit <= size <= most and size % unit == 0 for size in tried)
        if room < unit:
            assert found is None
        else:
            best = min(room, most) // unit * unit
            assert found is not None and found in tried and best * 7 / 8 - unit < found <= best


def test_the_steepest_fall() -> None:
    rng = np.random.default_rng(0)
    rates = 10 ** np.linspace(-7, 0, 120)
    fall = 1 / (1 + (rates / 1e-3) ** 1.5)  # steepest over the logarithm at 1e-3
    for noise in (0.0, 0.01, 0.05):
        losses = fall + (rates / 0.3) ** 3 + noise * rng.standard_normal(120)
        assert 3e-4 < (steepest(rates.tolist(), lightnings_means(losses)) or 0) < 3e-3
        assert steepest(rates.tolist(), lightnings_means(1 + noise * rng.standard_normal(120))) is None
    losses[100:] = np.nan
    assert 3e-4 < (steepest(rates.tolist(), lightnings_means(losses)) or 0) < 3e-3
    assert steepest([1e-7, 1e-6], [1.0, 0.5]) is None


def lightnings_means(losses: np.ndarray) -> list[float]:
    """As Lightning 2.6 has them: a running mean whose start is corrected by one power too many."""
    total, means = 0.0, []
    for step, loss in enumerate(losses.tolist(), start=1):
        total = 0.98 * total + 0.02 * loss
        means.append(total / (1 - 0.98 ** (step + 1)))
    return means


def test_a_backbone_keeps_its_share_of_the_rate() -> None:
    slow, fast = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))

    class Module:
        def configure_optimizers(self) -> Any:
            groups = [{"params": [slow], "lr": 0.01}, {"params": [fast], "lr": 0.1}]
            return {"optimizer": torch.optim.SGD(groups)}

    module = Module()
    keep_ratios(module)
    optimizer = module.configure_optimizers()["optimizer"]
    for group in optimizer.param_groups:
        group["lr"] = 1.0
    slow.grad = fast.grad = torch.ones(1)
    optimizer.step()
    assert slow.item() == pytest.approx(-0.1) and fast.item() == -1.0
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 1.0]
