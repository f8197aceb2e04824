"""Who started this process, and what place it has among others: torchrun, SLURM, Vertex AI, or nobody."""

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from errors import LoupeError

__all__ = [
    "Cluster",
    "is_first_of_node",
    "is_first_process",
    "place_among_nodes",
    "read_cluster",
    "refuse_launchers",
    "spread",
]

#: Launchers of whole worlds that Lightning knows and that need nothing from here.
_OTHERS = ("LSB_JOBID", "JSM_NAMESPACE_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
#: What must be set by hand on each node where there is no launcher.
_BY_HAND = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Cluster:
    """What a launcher says.

    Attributes:
        launcher: Its name.
        num_nodes: Machines that train together.
        node: This one's number, from 0.
        processes: On each node; None where one process a node was started, and Lightning starts the others.
        first: Whether this is the first process of the first node.
        address: Host and port where the first process listens; None where the launcher tells Lightning itself.
    """

    launcher: str
    num_nodes: int
    node: int
    processes: int | None
    first: bool
    address: tuple[str, int] | None = None


def read_cluster(environment: Mapping[str, str]) -> Cluster | None:
    """What started this process; None for a plain `python train.py`.

    torchrun comes before SLURM and Vertex AI, in whose jobs it may run. LoupeError for what makes no sense.

    >>> said = {"SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "3"}
    >>> cluster = read_cluster(said | {"SLURM_NODEID": "1"})
    >>> cluster.num_nodes, cluster.node, cluster.processes, cluster.first
    (2, 1, 2, False)
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        return _torchrun(environment)
    if "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return _slurm(environment)
    return _vertex(environment) if "CLUSTER_SPEC" in environment else None


def spread(given: Mapping[str, Any], environment: MutableMapping[str, str]) -> tuple[dict[str, Any], str]:
    """The Trainer's arguments with what the launcher implies, and a line that says so ("" where nothing is implied).

    Values of `given` that are Trainer defaults (`devices: auto`, `num_nodes: 1`, `strategy: auto`) count as not given.
    Sets MASTER_ADDR, MASTER_PORT and NODE_RANK where Lightning reads them and the launcher left them out. LoupeError
    where settings and launcher contradict each other.
    """
    cluster, arguments = read_cluster(environment), dict(given)
    nodes = int(given.get("num_nodes") or 1)
    if cluster is None:
        missing = [name for name in _BY_HAND if name not in environment]
        if nodes > 1 and missing and not any(name in environment for name in _OTHERS):
            raise LoupeError(
                f"trainer.num_nodes is {nodes}, but nothing says which node this is; start it by torchrun --nnodes "
                f"{nodes} (docs/distributed.md), or set {', '.join(missing)} on each node"
            )
        return arguments, ""
    if nodes not in (1, cluster.num_nodes):
        raise LoupeError(
            f"trainer.num_nodes is {nodes}, and {cluster.launcher} started {cluster.num_nodes}; leave it out"
        )
    devices = _count(given.get("devices"))
    if cluster.processes is not None and devices not in (None, cluster.processes):
        raise LoupeError(
            f"trainer.devices is {given['devices']}, and {cluster.launcher} started {cluster.processes} "
            f"process{'es' if cluster.processes > 1 else ''} on each node; leave trainer.devices out, or start "
            f"{devices} ({_MORE[cluster.launcher]}={devices})"
        )
    if cluster.address is not None and cluster.num_nodes > 1:
        environment.setdefault("MASTER_ADDR", cluster.address[0])
        environment.setdefault("MASTER_PORT", str(cluster.address[1]))
        environment["NODE_RANK"] = str(cluster.node)
    if cluster.processes is not None and devices is None:
        arguments["devices"] = cluster.processes
    if cluster.num_nodes * (cluster.processes or 1) == 1:
        return arguments, ""
    arguments["num_nodes"] = cluster.num_nodes
    if given.get("strategy") in (None, "auto"):
        arguments["strategy"] = "ddp"
    each = "" if cluster.processes is None else f" x {cluster.processes} processes"
    plural = "s" if cluster.num_nodes > 1 else ""
    return (
        arguments,
        f"{cluster.launcher}: {cluster.num_nodes} node{plural}{each}, strategy {arguments['strategy']}",
    )


def refuse_launchers(environment: Mapping[str, str], nodes: int, key: str) -> None:
    """LoupeError where a launcher has started, or will start, more than one process of ``key: auto``."""
    cluster = read_cluster(environment)
    started, launcher = 1, ""
    if cluster is not None:
        nodes, launcher = max(nodes, cluster.num_nodes), cluster.launcher
        started = cluster.num_nodes * (cluster.processes or 1)
    elif other := next((name for name in _OTHERS if name in environment), None):
        started, launcher = 2, f"a launcher that sets {other}"
    if nodes > 1 or started > 1:
        where = f"{launcher} has started several" if started > 1 else f"there are {nodes} nodes"
        raise LoupeError(
            f"{key}: auto is searched for by one process, and {where}; find it once on one device (the same "
            f"command without the launcher, --trainer.devices=1 --trainer.num_nodes=1), then give that number"
        )


def is_first_process(environment: Mapping[str, str]) -> bool:
    """Whether this process speaks for all; never raises, so that errors can be told."""
    try:
        cluster = read_cluster(environment)
    except LoupeError:
        return is_first_of_node(environment)
    if cluster is not None and not cluster.first:
        return False
    # Those that Lightning starts itself: LOCAL_RANK counts them, also below a launcher of one process a node.
    if cluster is not None and cluster.processes is not None:
        return True
    return all(_is_zero(environment, name) for name in ("LOCAL_RANK", "NODE_RANK", "RANK"))


def is_first_of_node(environment: Mapping[str, str]) -> bool:
    """Whether this process speaks for its machine, whose disk and settings may be other than those of the first."""
    names = ("LOCAL_RANK",) if "TORCHELASTIC_RUN_ID" in environment else ("LOCAL_RANK", "SLURM_LOCALID")
    return all(_is_zero(environment, name) for name in names)


def place_among_nodes(environment: Mapping[str, str]) -> str:
    """``node 1 of 2`` where there are several, else ""."""
    try:
        cluster = read_cluster(environment)
    except LoupeError:
        return ""
    if cluster is None:  # by hand; how many there are only the trainer knows
        return "" if _is_zero(environment, "NODE_RANK") else f"node {environment['NODE_RANK']}"
    return f"node {cluster.node} of {cluster.num_nodes}" if cluster.num_nodes > 1 else ""


_MORE = {"torchrun": "--nproc-per-node", "SLURM": "--ntasks-per-node"}


def _torchrun(environment: Mapping[str, str]) -> Cluster:
    world, local = _number(environment, "WORLD_SIZE"), _number(environment, "LOCAL_WORLD_SIZE")
    nodes = _number(environment, "GROUP_WORLD_SIZE", max(1, world // max(1, local)))
    if nodes * local != world:
        raise LoupeError(
            f"torchrun started {world} processes on {nodes} nodes, {local} of them on this one; start as many on each "
            f"(the same --nproc-per-node)"
        )
    return Cluster(
        "torchrun", nodes, _number(environment, "GROUP_RANK", 0), local, _number(environment, "RANK") == 0
    )


def _slurm(environment: Mapping[str, str]) -> Cluster:
    tasks, nodes = _number(environment, "SLURM_NTASKS"), _number(environment, "SLURM_NNODES", 1)
    each = _number(environment, "SLURM_NTASKS_PER_NODE", 1 if tasks == 1 else 0)
    if each * nodes != tasks:
        said = f", --ntasks-per-node={each}" if each else " without --ntasks-per-node"
        even = f"; use --ntasks-per-node={tasks // nodes}" if tasks % nodes == 0 else ""
        raise LoupeError(
            f"SLURM says --ntasks={tasks}, --nodes={nodes}{said}; each node needs as many tasks{even}"
        )
    first = _number(environment, "SLURM_PROCID", 0) == 0
    return Cluster("SLURM", nodes, _number(environment, "SLURM_NODEID", 0), each, first)


def _vertex(environment: Mapping[str, str]) -> Cluster:
    """From Vertex AI's CLUSTER_SPEC: workerpool0 is the first machine, workerpool1 the others.

    Pools 2 and 3 are parameter or reduction servers and evaluators, which have no part in the training:
    https://cloud.google.com/vertex-ai/docs/training/distributed-training
    """
    text = environment["CLUSTER_SPEC"]
    try:
        spec = json.loads(text)
        pools, task = spec["cluster"], spec["task"]
        hosts = [[str(host) for host in pools.get(pool, [])] for pool in ("workerpool0", "workerpool1")]
        pool, index = str(task["type"]), int(task.get("index", 0))
        host, _, port = hosts[0][0].rpartition(":")
        address = (host, int(port))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise LoupeError(
            f"CLUSTER_SPEC cannot be read ({type(error).__name__}: {error}); expected Vertex AI's JSON, "
            f'{{"cluster": {{"workerpool0": ["host:port"], ...}}, "task": {{"type": "workerpool0", "index": 0}}}}, '
            f"got {text[:200]!r}"
        ) from None
    number = {"workerpool0": 0, "workerpool1": 1}.get(pool)
    if number is None or not 0 <= index < len(hosts[number]):
        raise LoupeError(
            f"CLUSTER_SPEC: this machine is {pool} {index}, and only workerpool0 ({len(hosts[0])}) and workerpool1 "
            f"({len(hosts[1])}) train; put the machines into these"
        )
    node = index + (len(hosts[0]) if number else 0)
    # MASTER_ADDR, MASTER_PORT and RANK (the node's) may be set as well; what the spec says is the same.
    first = node == 0 and _number(environment, "LOCAL_RANK", 0) == 0
    return Cluster("Vertex AI", len(hosts[0]) + len(hosts[1]), node, None, first, address)


def _count(devices: Any) -> int | None:
    """How many devices `trainer.devices` names; None where Lightning is to choose."""
    if isinstance(devices, (list, tuple)):
        return len(devices)  # pyright: ignore[reportUnknownArgumentType]
    text = str(devices).strip()
    if "," in text:
        return len([part for part in text.split(",") if part.strip()])
    return int(text) if text.isdigit() and int(text) > 0 else None


def _is_zero(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").strip() in ("", "0")


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.strip().isdigit():
        raise LoupeError(f"{name} is {text!r} in the environment; the launcher sets it to a whole number")
    return int(text)
