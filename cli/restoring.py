"""What goes wrong while Lightning takes over a checkpoint's content, told as a fault of the checkpoint."""

import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager

from errors import LoupeError
from inference import not_as_written

__all__ = ["restoring_told"]

_CONNECTOR = "lightning.pytorch.trainer.connectors.checkpoint_connector"
_RESTORING = ("restore", "resume_start", "_restore")
#: In whose code a wrong value may be met; an error that begins in a user's own class keeps its traceback.
_BELOW = (
    "lightning",
    "torch",
    "packaging",
    "callbacks",
    "datamodules",
    "lightning_modules",
    "optim",
    "metrics",
)
_OPTIMIZERS = ("torch.optim.", "timm.optim.")


@contextmanager
def restoring_told(path: str | None, is_first_step: Callable[[], bool]) -> Generator[None]:
    """Turn what is raised while the checkpoint ``path`` is taken over into a LoupeError, and nothing else.

    Loops, optimizers, schedules, callbacks and the data each take their part of it, and each may meet a value of
    another type in its own way: what they have in common is who called them. What an optimizer remembers it looks at
    in the first step, and torch does not when it takes it.
    """
    try:
        yield
    except (LoupeError, OSError, MemoryError):
        raise
    except Exception as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        modules = [str(frame.f_globals.get("__name__", "")) for frame in frames]
        names = [frame.f_code.co_name for frame in frames]
        told = _restores(modules, names) or (is_first_step() and _steps(modules))
        # torch.OutOfMemoryError is a RuntimeError, and a fault of the machine
        if not path or not told or type(error).__name__ == "OutOfMemoryError":
            raise
        raise not_as_written(path, error) from error


def _restores(modules: list[str], names: list[str]) -> bool:
    restored = any(
        module == _CONNECTOR and name.startswith(_RESTORING)
        for module, name in zip(modules, names, strict=True)
    )
    return restored and modules[-1].split(".")[0] in _BELOW


def _steps(modules: list[str]) -> bool:
    """Whether the optimizer itself failed, and not the forward or backward pass, which Lightning runs within it."""
    places = [place for place, module in enumerate(modules) if module.startswith(_OPTIMIZERS)]
    return bool(places) and not any(module.startswith("lightning") for module in modules[places[-1] :])
