"""How hypothesis searches here."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def fuzz(count: int) -> settings:
    """So many cases: fewer than 500 are the same ones in each run, as the default tests need it; more are not."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=count < 500,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
