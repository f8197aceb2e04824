"""Two names of one value: Lightning's and ours, as one table (DESIGN 3.2)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from errors import LoupeError

__all__ = ["ALIASES", "DATA_NAMES", "Alias", "alias_of", "spell_out", "spelled_out"]


def _same(value: Any) -> Any:
    return value


def _always(value: Any) -> bool:
    return False


_PRECISIONS: dict[str, dict[str, Any]] = {
    "32": {"enabled": False},
    "32-true": {"enabled": False},
    "16": {"enabled": True, "dtype": "float16"},
    "16-mixed": {"enabled": True, "dtype": "float16"},
    "bf16": {"enabled": True, "dtype": "bfloat16"},
    "bf16-mixed": {"enabled": True, "dtype": "bfloat16"},
}


def _precision(value: Any) -> Any:
    return _PRECISIONS.get(str(value))


def _other_precision(value: Any) -> bool:
    return str(value) not in _PRECISIONS


def _logger(value: Any) -> Any:
    # A logger of the user's own takes the place of ours, unless it is a TensorBoard logger itself.
    return {"enabled": value if isinstance(value, bool) else "TensorBoardLogger" in str(value)}


def _logger_object(value: Any) -> bool:
    return not isinstance(value, bool)


@dataclass(frozen=True)
class Alias:
    """One value's other name.

    Attributes:
        other: Where Lightning keeps it.
        training: Where we keep it, below `training`.
        say: The other name's value in our words (None: it cannot be said, and nothing is).
        stays: Whether the value also stays under the other name (a logger object, a precision that is not mixed).
    """

    other: str
    training: str
    say: Callable[[Any], Any] = _same
    stays: Callable[[Any], bool] = _always


ALIASES: tuple[Alias, ...] = (
    Alias("trainer.max_epochs", "epochs"),
    Alias("trainer.precision", "mixed_precision", _precision, _other_precision),
    Alias("trainer.accumulate_grad_batches", "accumulate"),
    Alias("trainer.gradient_clip_val", "gradient_clip"),
    Alias("trainer.logger", "tensorboard", _logger, _logger_object),
    Alias("trainer.log_every_n_steps", "tensorboard.update_freq"),
    Alias("data.loader.batch_size", "batch_size"),
    Alias("data.init_args.loader.batch_size", "batch_size"),
)


def alias_of(key: str) -> Alias | None:
    """The table's row for the other name ``key``, or None.

    >>> alias_of("trainer.max_epochs").training
    'epochs'
    """
    return next((alias for alias in ALIASES if alias.other == key), None)


#: Shorter names of settings in the groups of `data`: short -> group and name.
DATA_NAMES = {
    "cache": ("loader", "cache"),
    "fold": ("split", "fold"),
    "num_folds": ("split", "num_folds"),
    "on_error": ("read", "on_error"),
}


def spelled_out(key: str) -> str:
    """The full name of a setting on the command line.

    >>> spelled_out("data.init_args.fold"), spelled_out("data.cache"), spelled_out("data.root")
    ('data.split.fold', 'data.loader.cache', 'data.root')
    """
    short = key.removeprefix("data.").removeprefix("init_args.")
    return ".".join(("data", *DATA_NAMES[short])) if key.startswith("data.") and short in DATA_NAMES else key


def spell_out(data: dict[str, Any], where: str) -> None:
    """Puts settings under shorter names into their groups, in a file's `data` section or its `init_args`."""
    for short, (group, name) in DATA_NAMES.items():
        if short not in data:
            continue
        inside = {} if data.get(group) is None else data[group]
        if not isinstance(inside, dict):
            raise LoupeError(f"data.{group} {where} is {inside!r}; it holds settings, such as {name}")
        if name in inside:
            raise LoupeError(
                f"data.{short} and data.{group}.{name} {where} are two names of one value; keep one"
            )
        data[group] = {**inside, name: data.pop(short)}
