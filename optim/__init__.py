"""Optimizers and schedules by name, warm-up, and the regularizer."""

from optim.decays import SCHEDULES, schedule_options
from optim.optimizer import create_optimizer, optimizer_options
from optim.regularizer import penalty
from optim.schedule import Schedule, create_schedule

__all__ = [
    "SCHEDULES",
    "Schedule",
    "create_optimizer",
    "create_schedule",
    "optimizer_options",
    "penalty",
    "schedule_options",
]
