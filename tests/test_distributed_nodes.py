"""Several machines: what each launcher says, what contradicts it, and real torchrun agents without shared storage."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cli import main
from cli.cluster import is_first_of_node, is_first_process, place_among_nodes, read_cluster, spread
from errors import LoupeError
from tests.fitting import CONFIG, SMALL, options, read_metrics, write_pictures
from tests.launched import Job, Outcome, as_slurm, as_torchrun, as_vertex, free_port, run_commands, weights

DEFAULTS: dict[str, Any] = {"num_nodes": 1, "devices": "auto", "strategy": "auto"}
TWO_BY_TWO = {**as_torchrun(3, 4, 29500), "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1"}
TWO_BY_TWO["GROUP_WORLD_SIZE"] = "2"
HOSTS = {"workerpool0": ["main-0:2222"], "workerpool1": ["w-0:2222", "w-1:2222"], "workerpool2": ["r-0:2222"]}


def vertex(pool: str, index: int) -> dict[str, str]:
    return {"CLUSTER_SPEC": json.dumps({"cluster": HOSTS, "task": {"type": pool, "index": index}})}


@pytest.mark.parametrize(
    ("environment", "launcher", "num_nodes", "node", "processes", "first"),
    [
        (TWO_BY_TWO, "torchrun", 2, 1, 2, False),
        (as_torchrun(0, 4, 1), "torchrun", 1, 0, 4, True),
        (as_slurm(1, 2, 1), "SLURM", 2, 1, 1, False),
        ({"SLURM_NTASKS": "1"}, "SLURM", 1, 0, 1, True),
        (vertex("workerpool0", 0), "Vertex AI", 3, 0, None, True),
        (vertex("workerpool0", 0) | {"LOCAL_RANK": "1"}, "Vertex AI", 3, 0, None, False),
        (vertex("workerpool1", 1), "Vertex AI", 3, 2, None, False),
        # torchrun within the others' jobs is what counts; its numbers need not be SLURM's
        (as_slurm(1, 2, 1) | as_torchrun(0, 2, 1), "torchrun", 1, 0, 2, True),
        (vertex("workerpool1", 0) | TWO_BY_TWO, "torchrun", 2, 1, 2, False),
    ],
)
def test_what_a_launcher_says(
    environment: dict[str, str], launcher: str, num_nodes: int, node: int, processes: int | None, first: bool
) -> None:
    cluster = read_cluster(environment)
    assert cluster is not None
    found = cluster.launcher, cluster.num_nodes, cluster.node, cluster.processes, cluster.first
    assert found == (launcher, num_nodes, node, processes, first)
    assert is_first_process(environment) is first
    assert place_among_nodes(environment) == (f"node {node} of {num_nodes}" if num_nodes > 1 else "")


@pytest.mark.parametrize(
    "environment", [{}, {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "bash"}, {"WORLD_SIZE": "2", "RANK": "0"}]
)
def test_no_launcher(environment: dict[str, str]) -> None:
    assert read_cluster(environment) is None
    assert spread(DEFAULTS, environment) == (DEFAULTS, "")
    assert is_first_process(environment)


@pytest.mark.parametrize(
    ("environment", "is_first", "of_node"),
    [
        ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, False, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False, True),
        (TWO_BY_TWO, False, False),
        (TWO_BY_TWO | {"LOCAL_RANK": "0", "RANK": "2"}, False, True),
        (as_slurm(1, 2, 1), False, True),
        ({"CLUSTER_SPEC": "broken"}, True, True),
    ],
)
def test_who_speaks(environment: dict[str, str], is_first: bool, of_node: bool) -> None:
    assert (is_first_process(environment), is_first_of_node(environment)) == (is_first, of_node)


def test_the_trainer_is_told_what_the_launcher_said() -> None:
    arguments, told = spread(DEFAULTS, dict(TWO_BY_TWO))
    assert arguments == {"num_nodes": 2, "devices": 2, "strategy": "ddp"}
    assert told == "torchrun: 2 nodes x 2 processes, strategy ddp"
    own = {**DEFAULTS, "strategy": "ddp_find_unused_parameters_true", "devices": [0, 1]}
    assert spread(own, dict(TWO_BY_TWO))[0] == {**own, "num_nodes": 2}
    assert spread(DEFAULTS, as_torchrun(0, 1, 1)) == ({**DEFAULTS, "devices": 1}, "")


def test_vertex_names_the_first_machine_and_leaves_what_is_set() -> None:
    environment = vertex("workerpool1", 1)
    arguments, _ = spread({**DEFAULTS, "devices": 4}, environment)
    assert arguments == {"num_nodes": 3, "devices": 4, "strategy": "ddp"}
    assert [environment[name] for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")] == [
        "main-0",
        "2222",
        "2",
    ]
    environment = vertex("workerpool0", 0) | {"MASTER_ADDR": "localhost", "MASTER_PORT": "3333", "RANK": "0"}
    spread(DEFAULTS, environment)
    assert (environment["MASTER_ADDR"], environment["MASTER_PORT"]) == ("localhost", "3333")


@pytest.mark.parametrize(
    ("given", "environment", "message"),
    [
        (
            {"devices": 4},
            as_torchrun(0, 2, 1),
            "trainer.devices is 4, and torchrun started 2 processes.*node=4",
        ),
        ({"devices": "0,1,2"}, as_slurm(0, 2, 1), "SLURM started 1 process on.*--ntasks-per-node=3"),
        ({"num_nodes": 3}, TWO_BY_TWO, "trainer.num_nodes is 3, and torchrun started 2"),
        ({"num_nodes": 2}, {}, "nothing says which node.*set NODE_RANK, MASTER_ADDR, MASTER_PORT"),
        ({"num_nodes": 2}, {"NODE_RANK": "1", "MASTER_ADDR": "a"}, "set MASTER_PORT on each"),
        ({}, TWO_BY_TWO | {"WORLD_SIZE": "3"}, "torchrun started 3 processes on 2 nodes"),
        ({}, TWO_BY_TWO | {"WORLD_SIZE": "x"}, "WORLD_SIZE is 'x'"),
        (
            {},
            {"SLURM_NTASKS": "4", "SLURM_NNODES": "2"},
            "without --ntasks-per-node.*use --ntasks-per-node=2",
        ),
        ({}, {"CLUSTER_SPEC": "{"}, "CLUSTER_SPEC cannot be read .JSONDecodeError"),
        ({}, {"CLUSTER_SPEC": "[]"}, "CLUSTER_SPEC cannot be read .TypeError"),
        ({}, {"CLUSTER_SPEC": '{"cluster": {"workerpool0": []}, "task": {"type": "x"}}'}, "IndexError"),
        ({}, vertex("workerpool2", 0), "this machine is workerpool2 0, and only"),
        ({}, vertex("workerpool1", 2), "this machine is workerpool1 2"),
    ],
)
def test_contradictions(given: dict[str, Any], environment: dict[str, str], message: str) -> None:
    with pytest.raises(LoupeError, match=message):
        spread({**DEFAULTS, **given}, dict(environment))


def test_each_node_says_what_it_lacks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_words: list[str]
) -> None:
    """Node 1 prints although it is not the first: only its disk lacks the file."""
    for name, value in (TWO_BY_TWO | {"LOCAL_RANK": "0", "RANK": "2"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    assert main(["test", *tiny_words, "--ckpt_path=gone.ckpt"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("node 1 of 2: error: --ckpt_path: no file gone.ckpt;")
    assert "each node needs the run directory, on storage that all share (this is node 1 of 2)" in printed.err
    assert main(["test", *tiny_words, "--ckpt_path=best"]) == 2
    told = capsys.readouterr().err
    assert "there is no run with checkpoints" in told
    assert "on storage that all share" in told


def agents(nodes: int, each: int) -> list[tuple[list[str], dict[str, str]]]:
    """The commands of `docs/distributed.md`, one a node, all on this machine."""
    port = free_port()
    words = [
        f"--nnodes={nodes}",
        f"--nproc-per-node={each}",
        "--master-addr=127.0.0.1",
        f"--master-port={port}",
    ]
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    return [([*torchrun, *words, f"--node-rank={node}"], {}) for node in range(nodes)]


FIT = (
    "--training.epochs=4",
    "--training.batch_size=4",
    "--training.learning_rate=0.5",  # so large that the best epoch is not the last
    "--training.optimizer={type: sgd, momentum: 0.9}",
    "--training.early_stopping={enabled: true, patience: 1}",
)


def run_on_nodes(folder: Path, nodes: int, each: int) -> tuple[list[list[Outcome]], list[Path]]:
    """A fit and a prediction, where each node has a folder, and so a disk, of its own."""
    data = write_pictures(folder / "data", {"train": 9, "val": 5, "test": 3}, void=True)
    disks = [folder / f"disk_{rank // each}" for rank in range(nodes * each)]
    small = [f"--config={CONFIG}", *SMALL, f"--data.root={data}", options("group")]
    trained = folder / "trained.ckpt"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", *small, "--run.directory=alone"]) == 0
    (folder / "alone" / "seg_unet" / "version_0" / "checkpoints" / "last.ckpt").rename(trained)
    predict = [f"--ckpt_path={trained}", f"--data.predict_path={data / 'val' / 'images'}", "--run.name=seen"]
    jobs = [Job(["fit", *small, *FIT], [str(disk) for disk in disks])]
    jobs.append(Job(["predict", *small, *predict], [str(disk) for disk in disks]))
    return run_commands(folder / "out", jobs, agents(nodes, each), world=nodes * each), disks


class Nodes:
    """Runs of several nodes, once for all tests of a shape."""

    def __init__(self, folder: Path, nodes: int, each: int) -> None:
        self.folder, self.world = folder, nodes * each
        (self.fit, self.predict), self.disks = run_on_nodes(folder, nodes, each)
        self.others = sorted(set(self.disks) - {self.disks[0]})

    def check_fit(self) -> None:
        assert [outcome.code for outcome in self.fit] == [0] * self.world, self.fit[0].err
        run = self.disks[0] / "runs" / "seg_unet" / "version_0"
        assert {"best.ckpt", "last.ckpt"} <= {path.name for path in (run / "checkpoints").iterdir()}
        assert (run / "config.yaml").is_file()
        assert [row["epoch"] for row in read_metrics(run)][:2] == ["0", "1"]
        for disk in self.others:
            assert not (disk / "runs" / "seg_unet").exists(), "only the first node writes"
        best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
        last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        assert best["epoch"] < last["epoch"]
        for rank in range(self.world):
            ended = weights(self.folder / "out", 0, rank)
            assert all(torch.equal(ended[key], value) for key, value in best["state_dict"].items()), rank

    def check_predictions(self) -> None:
        assert [outcome.code for outcome in self.predict] == [0] * self.world, self.predict[0].err
        there = self.disks[0] / "runs" / "seen" / "version_0" / "predictions"
        rows = (there / "predictions.csv").read_text().splitlines()[1:]
        assert [Path(row.split(",")[0]).name for row in rows] == [f"{number:02d}.png" for number in range(5)]
        masks: list[str] = []
        for disk in sorted(set(self.disks)):
            found = (disk / "runs" / "seen" / "version_0" / "predictions" / "masks").glob("*.png")
            masks += [path.name for path in found]
        assert sorted(masks) == [f"{number:02d}.png" for number in range(5)]
        assert not list(self.folder.rglob(".of_*"))
        journals = [path.read_text() for path in (there / "journal").iterdir()]
        assert sum(text.count('"path"') for text in journals) == 5, "those of the other nodes were brought"
        told = self.predict[0].out
        assert "the machines share no disk, so pictures named in predictions.csv lie elsewhere: " in told
        assert str(self.others[0]) in told


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Nodes:
    return Nodes(tmp_path_factory.mktemp("nodes"), 2, 1)


def test_a_fit_on_two_nodes_without_shared_storage(two_nodes: Nodes) -> None:
    two_nodes.check_fit()
    assert two_nodes.fit[0].out.startswith("torchrun: 2 nodes x 1 processes, strategy ddp\n")
    assert two_nodes.fit[1].out == ""


def test_a_prediction_on_two_nodes_without_shared_storage(two_nodes: Nodes) -> None:
    two_nodes.check_predictions()


@pytest.mark.slow
def test_two_nodes_of_two_processes(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, 2, 2)
    nodes.check_fit()
    nodes.check_predictions()


def test_the_children_of_an_own_launcher_say_nothing() -> None:
    """A fit on three Vertex machines: the tests of evaluation run it; here, which of a machine's processes speaks."""
    speaking = [
        is_first_process(as_vertex(node, 3, 1) | ({"LOCAL_RANK": str(local)} if local else {}))
        for node in range(3)
        for local in range(2)
    ]
    assert speaking == [True, False, False, False, False, False]
