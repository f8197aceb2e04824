"""Which work a command does, once its objects are made."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cli.calibrate import run_calibrate
from cli.evaluation import evaluate
from cli.export import run_export
from cli.restoring import restoring_told
from cli.run_report import reported

if TYPE_CHECKING:
    from cli.app import LoupeCLI

__all__ = ["dispatch"]


def dispatch(cli: "LoupeCLI", lightning: Callable[[], None]) -> int:
    """Do it; returns the exit code.

    Args:
        cli: With trainer, model and datamodule.
        lightning: What Lightning does for the command.
    """
    command, section = cli.request.command, cli.config_init[str(cli.subcommand)]
    if command == "check":
        from cli.check import run_check  # with templates and tables that no other command needs

        return run_check(
            cli.trainer,
            cli.model,
            cli.datamodule,
            config=section,
            check_monitor=cli.check_monitor,
            folder=cli.run.parent / "check",
            configs=cli.request.files,
        )
    path, step = section.get("ckpt_path"), cli.checkpoint.get("global_step")
    told = restoring_told(path, lambda: cli.trainer.global_step == step)
    with reported(command, cli.run, cli.trainer), told:
        match command:
            case "calibrate":
                options = section["calibration"]
                run_calibrate(cli.trainer, cli.model, cli.datamodule, Path(path), options, cli.run)
            case "export":
                return run_export(
                    section, Path(path), cli.datamodule, uses=cli.uses, run=cli.run, words=cli.request.line
                )
            case "validate" | "test":
                evaluate(lightning, cli.uses, cli.trainer, cli.datamodule, cli.run)
            case _:
                lightning()
    return 0
