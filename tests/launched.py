"""Real processes that run one command line after another, as torchrun, SLURM or Vertex AI would have started them.

As a program (`python tests/launched.py JOBS.json`): each process runs every job in turn, in the folder of its rank,
and writes beside JOBS.json what it printed, its exit code, and on a fit's end the loss of each step and the weights.
Starting Python with torch takes longer than a small fit, so the jobs of a test module share the processes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 300


@dataclass
class Job:
    """A command line, and in which folder each rank runs it (the last one for all further ranks)."""

    words: list[str]
    folders: list[str]


@dataclass
class Outcome:
    """What one process made of one job."""

    code: int
    out: str
    err: str
    losses: list[float] = field(default_factory=list)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_torchrun(rank: int, world: int, port: int) -> dict[str, str]:
    """One node of ``world`` processes."""
    return {
        "TORCHELASTIC_RUN_ID": "none",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def as_slurm(rank: int, world: int, port: int) -> dict[str, str]:
    """`srun --ntasks-per-node=1`, a node a process."""
    return {
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NAME": "loupe",
        "SLURM_NTASKS": str(world),
        "SLURM_NNODES": str(world),
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_PROCID": str(rank),
        "SLURM_NODEID": str(rank),
        "SLURM_LOCALID": "0",
        "SLURM_NODELIST": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def as_vertex(rank: int, world: int, port: int) -> dict[str, str]:
    """A custom job of one primary replica and ``world - 1`` workers, which share this machine here."""
    others = [f"127.0.0.1:{port}"] * (world - 1)
    spec = {
        "cluster": {"workerpool0": [f"127.0.0.1:{port}"], "workerpool1": others},
        "environment": "cloud",
        "task": {"type": f"workerpool{min(rank, 1)}", "index": max(0, rank - 1)},
    }
    return {"CLUSTER_SPEC": json.dumps(spec)}


STARTERS = {"torchrun": as_torchrun, "slurm": as_slurm, "vertex": as_vertex}


def run_together(folder: Path, jobs: Sequence[Job], *, world: int, starter: str) -> list[list[Outcome]]:
    """Run all jobs in ``world`` processes; ``[job][rank]``."""
    port = free_port()
    commands = [([sys.executable], STARTERS[starter](rank, world, port)) for rank in range(world)]
    return run_commands(folder, jobs, commands, world=world)


def run_commands(
    folder: Path, jobs: Sequence[Job], commands: Sequence[tuple[list[str], dict[str, str]]], *, world: int
) -> list[list[Outcome]]:
    """The same, in the processes that these commands start, each with its environment."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jobs.json").write_text(json.dumps([asdict(job) for job in jobs]))
    program = [str(Path(__file__).resolve()), str(folder / "jobs.json")]
    started: list[subprocess.Popen[bytes]] = []
    for number, (command, environment) in enumerate(commands):
        with (folder / f"log_{number}").open("w") as log:
            environment = {**os.environ, **environment, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
            started.append(
                subprocess.Popen([*command, *program], env=environment, stdout=log, stderr=subprocess.STDOUT)
            )
    try:
        codes = [process.wait(TIMEOUT_S) for process in started]
    finally:
        for process in started:
            process.terminate()  # torchrun hands it on
        for process in started:
            process.wait(30)
    assert codes == [0] * len(started), "\n".join(
        (folder / f"log_{number}").read_text()[-3000:] for number in range(len(started))
    )
    return [[_outcome(folder, n, rank) for rank in range(world)] for n in range(len(jobs))]


def run_alone(folder: Path, jobs: Sequence[Job]) -> list[Outcome]:
    """Run all jobs in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, job in enumerate(jobs):
        run_job(number, job, 0, folder)
    return [_outcome(folder, number, 0) for number in range(len(jobs))]


def weights(folder: Path, job: int, rank: int = 0) -> dict[str, Any]:
    """What the model of a fit held in the end."""
    import torch

    return torch.load(folder / f"job_{job}_rank_{rank}.pt", weights_only=True)


def _outcome(folder: Path, job: int, rank: int) -> Outcome:
    return Outcome(**json.loads((folder / f"job_{job}_rank_{rank}.json").read_text()))


def run_job(number: int, job: Job, rank: int, results: Path) -> None:
    """One command through the front door, watched by a callback."""
    import torch
    from lightning.pytorch import Callback

    import cli.app
    from cli import main

    losses: list[float] = []

    class Watch(Callback):
        """The loss of each step over all processes, and the weights in the end."""

        def on_train_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            losses.append(float(trainer.strategy.reduce(outputs["loss"].detach().clone(), reduce_op="mean")))

        def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
            torch.save(pl_module.state_dict(), results / f"job_{number}_rank_{rank}.pt")

    build = cli.app.trainer_arguments

    def watched(*args: Any, **kwargs: Any) -> dict[str, Any]:
        arguments = build(*args, **kwargs)
        return {**arguments, "callbacks": [*arguments["callbacks"], Watch()]}

    out, err, here = io.StringIO(), io.StringIO(), Path.cwd()
    folder = Path(job.folders[min(rank, len(job.folders) - 1)])
    folder.mkdir(parents=True, exist_ok=True)
    cli.app.trainer_arguments = watched
    try:
        os.chdir(folder)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(job.words)
    finally:
        os.chdir(here)
        cli.app.trainer_arguments = build
    outcome = Outcome(code, out.getvalue(), err.getvalue(), losses)
    (results / f"job_{number}_rank_{rank}.json").write_text(json.dumps(asdict(outcome)))


def rank_of(environment: dict[str, str]) -> int:
    if "CLUSTER_SPEC" in environment:
        task = json.loads(environment["CLUSTER_SPEC"])["task"]
        return int(task["index"]) + int(task["type"] == "workerpool1")
    return int(environment.get("RANK", environment.get("SLURM_PROCID", "0")))


if __name__ == "__main__":
    listed = Path(sys.argv[1])
    own_rank = rank_of(dict(os.environ))
    for at, content in enumerate(json.loads(listed.read_text())):
        run_job(at, Job(**content), own_rank, listed.parent)
