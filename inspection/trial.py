"""One batch through everything: reading, augmentation, network, loss, optimizer, metrics."""

import traceback
from collections.abc import Callable

from errors import LoupeError
from inspection.finding import Finding

__all__ = ["check_settings", "run_trial"]


def check_settings(checks: list[Callable[[], None]]) -> list[Finding]:
    """What raises LoupeError of the settings is a finding."""
    found: list[Finding] = []
    for check in checks:
        try:
            check()
        except LoupeError as error:
            found.append(Finding("setting", "error", [str(error)]))
    return found


def run_trial(trial: Callable[[], None]) -> list[Finding]:
    """A training step and a validation step; whatever they raise is a finding."""
    try:
        trial()
    except LoupeError as error:
        return [Finding("one batch fails", "error", [str(error)])]
    except Exception as error:  # whatever a user's class, a network or a metric may raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
        return [Finding("one batch fails", "error", [text])]
    return []
