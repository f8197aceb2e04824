"""The command line: layers of settings to a Trainer, a module and a datamodule, and errors that help."""

from cli.main import main
from cli.vocabulary import Training

__all__ = ["Training", "main"]
