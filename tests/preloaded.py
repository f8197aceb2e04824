"""Imported once by the process from which `tests.processes` starts others."""

import torch

import cli.app

torch.set_num_threads(1)

__all__ = ["cli"]
