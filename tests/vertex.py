"""Places like those of a Vertex AI job: three folders below one address, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import register_implementation

import cli.vertex
from callbacks.uploads import Uploads

VARIABLES = {
    "AIP_TENSORBOARD_LOG_DIR": "tensorboard",
    "AIP_CHECKPOINT_DIR": "checkpoints",
    "AIP_MODEL_DIR": "model",
}


class Quick(Uploads):
    """Uploads whose pauses are those of a test."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"every_s": 0.2, "retry_s": 0.05, **kwargs})


def set_places(monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    """What Vertex AI sets for ``baseOutputDirectory: base``, with its trailing slashes."""
    for variable, name in VARIABLES.items():
        monkeypatch.setenv(variable, f"{base}/{name}/")
    monkeypatch.setattr(cli.vertex, "Uploads", Quick)


def fetch(base: str, folder: Path) -> Path:
    """All that is below an address, in a folder here."""
    system: Any = fsspec.filesystem(base.partition("://")[0])
    root = system._strip_protocol(base)
    for path in system.find(root):
        target = folder / path.removeprefix(root).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(path, str(target))
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Trouble(MemoryFileSystem):
    """``trouble://``: memory whose uploads do what a test asks for, and tell in which order they came."""

    protocol = "trouble"
    store: dict[str, Any] = {}  # noqa: RUF012  of its own, not that of memory://
    pseudo_dirs = [""]  # noqa: RUF012
    order: list[str] = []  # noqa: RUF012
    behave: Any = staticmethod(lambda name: None)

    def put_file(self, lpath: Any, rpath: Any, *args: Any, **kwargs: Any) -> None:
        name = Path(rpath).name
        if "loupe_writable" not in name:
            type(self).behave(name)
        super().put_file(lpath, rpath, *args, **kwargs)

    def mv(self, path1: str, path2: str, *args: Any, **kwargs: Any) -> None:
        super().mv(path1, path2, *args, **kwargs)
        self.order.append(Path(path2).name)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        super().cp_file(path1, path2, **kwargs)
        if not Path(path1).name.startswith("."):
            self.order.append(Path(path2).name)

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return super()._strip_protocol(str(path).replace("trouble://", "memory://"))


@pytest.fixture
def trouble() -> Iterator[type[Trouble]]:
    register_implementation("trouble", Trouble, clobber=True)
    Trouble.store.clear()
    Trouble.order.clear()
    Trouble.behave = staticmethod(lambda name: None)
    yield Trouble
    Trouble.behave = staticmethod(lambda name: None)
    Trouble.store.clear()


def stored(name: str) -> bytes:
    """The content of one file of ``trouble://job``."""
    return Trouble.store[f"/job/{name}"].getvalue()
