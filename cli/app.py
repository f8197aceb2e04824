"""LightningCLI with our vocabulary, our run directory and our rules about checkpoints."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf.errors import OmegaConfBaseException

from callbacks import RunDirectory, pass_over_idle_hooks
from cli.auto_numbers import settle_numbers
from cli.checkpoint_path import evaluation_directory, run_of
from cli.dispatch import dispatch
from cli.layers import Request
from cli.messages import print_once
from cli.monitor import check_monitor
from cli.options import check_loss, check_typed_block
from cli.parser import LoupeParser
from cli.predicting import prediction_writer
from cli.resume import check_epochs, open_checkpoint, tell_differences
from cli.sections import add_sections, check_sections
from cli.trainer import trainer_arguments, trial_arguments
from cli.uses import Uses
from cli.vertex import fetched_checkpoint, vertex_uploads
from cli.vocabulary import Training
from datamodules import LoupeDataModule
from errors import LoupeError
from inference import create_looks, resolve_region, taking_over
from lightning_modules import LoupeModule
from optim import SCHEDULES

__all__ = ["LoupeCLI", "Run"]


@dataclass
class Run:
    """Where a run is kept.

    Attributes:
        name: Folder of the runs of this experiment; null takes the first config file's name.
        directory: Folder of all experiments.
    """

    name: str | None = None
    directory: str = "runs"


class LoupeCLI(LightningCLI):
    """Parses what `cli.main` prepared, checks what can be checked, and runs one command.

    Args:
        request: The command line as `cli.layers` read it.
        words: The words for the parser: the command, the configs as YAML texts, and the flags.
    """

    model: LoupeModule
    datamodule: LoupeDataModule
    trainer: Trainer

    def __init__(self, request: Request, words: list[str]) -> None:
        self.request = request
        self.exit_code = 0
        self.checkpoint: dict[str, Any] = {}
        LoupeParser.sections = {"model": LoupeModule, "data": LoupeDataModule}
        super().__init__(
            LoupeModule,
            LoupeDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_callback=None,
            parser_class=LoupeParser,
            auto_configure_optimizers=False,
            args=words,
        )

    # -- the parser ---------------------------------------------------------------------------------------------

    def subcommands(self) -> dict[str, set[str]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The command at hand, with those arguments of the Trainer's method that are not for the command line.

        A parser is made for each that is named here, and takes 0.1 s.
        """
        skip = {"model", "datamodule", "weights_only", "return_predictions", "verbose"}
        loaders = {"fit": {"train_dataloaders", "val_dataloaders"}}
        name = self.request.parsed_as
        return {name: skip | loaders.get(name, {"dataloaders"})}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add `training` and `run`; every module gets the training section as plain data."""
        parser.add_class_arguments(Training, "training")
        parser.add_class_arguments(Run, "run")
        add_sections(parser)
        for action in parser._actions:
            # typing.Union forgets its order (Lightning 2.6: float first), and 1 batch would become 1.0, all of them.
            if action.dest.startswith("trainer.limit_"):
                action._typehint = int | float | None  # pyright: ignore[reportAttributeAccessIssue]
        # Lightning's default for the first is true, and there is no other way to see that a user asked for it.
        parser.set_defaults({"trainer.use_distributed_sampler": False, "trainer.sync_batchnorm": True})
        parser.link_arguments("training", "model.init_args.training", compute_fn=_plain_training)
        parser.link_arguments(
            "training.batch_size", "data.init_args.loader.batch_size", compute_fn=_plain_number
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the prepared words (Lightning's own would warn that sys.argv has words too)."""
        try:
            self.config = parser.parse_args(args)
        except OmegaConfBaseException as error:
            root = f"{self.request.parsed_as}."
            key = str(error.full_key or "${...}").removeprefix(root).removeprefix("model.init_args.")
            raise LoupeError(f"{key}: {str(error).splitlines()[0].replace(root, '')}") from error

    def _parse_ckpt_path(self) -> None:
        """Find the checkpoint that is meant; unlike Lightning, never take settings from it behind the user's back."""
        config = self.config[self.config.subcommand]
        if config.run.name is None:
            first = self.request.files[0] if self.request.files else Path("run.yaml")
            own = run_of(first)
            config.run.name = own.parent.name if own else first.stem
        if Path(config.run.name).name != config.run.name or config.run.name in ("", ".."):
            raise LoupeError(
                f"run.name is a folder's name, got '{config.run.name}'; run.directory says where it lies"
            )
        parent = Path(config.run.directory) / config.run.name
        self.run = RunDirectory(parent, existing=None, config="")
        given = fetched_checkpoint(
            config.get("ckpt_path"), self.request.command, self.request.files, parent, os.environ
        )
        config["ckpt_path"] = given
        if given is None:
            if self.config.subcommand != "fit":
                raise LoupeError(
                    f"{self.request.command} needs trained weights; give --ckpt_path best, last or a FILE"
                )
            return
        path, content, damaged = open_checkpoint(given, self.request.files, parent)
        config.ckpt_path = str(path)
        print_once(f"checkpoint: {path}")
        kept = ("loupe", "config", "epoch", "global_step", "roi")
        self.checkpoint = {key: content.get(key) for key in kept}
        existing = run_of(path)
        if self.config.subcommand == "fit":
            check_epochs(path, content, config.training.epochs)
            if existing is not None and existing.parent.name != config.run.name:
                existing = None  # under another name it is another run, which begins where this one stood
        if existing is None and self.config.subcommand != "fit":
            existing = evaluation_directory(self.request.files, parent)
        self.run = RunDirectory(parent, existing=existing, config="", damaged=damaged)

    def _set_seed(self) -> None:
        seed = self._get(self.config, "seed_everything")
        if not isinstance(seed, bool) and not 0 <= seed < 2**32:
            raise LoupeError(f"seed_everything: expected a whole number from 0 to {2**32 - 1}, got {seed}")
        super()._set_seed()

    # -- checks and objects -------------------------------------------------------------------------------------

    def before_instantiate_classes(self) -> None:
        """Check the typed blocks by what will be built from them, and write down the resolved configuration."""
        if self.request.demo:
            print_once(
                "no data is named: using the demo data (configs/demo.yaml); your own: --data.root FOLDER"
            )
        config = self.config[self.config.subcommand]
        check_loss(config.training.loss, config.model.class_path)
        if config.training.lr_schedule.get("enabled", True):
            check_typed_block("training.lr_schedule", config.training.lr_schedule, SCHEDULES)
        settle_numbers(
            config,
            command=self.request.command,
            checkpoint=self.checkpoint,
            build=self._parser(str(self.config.subcommand)).instantiate_classes,
            write=partial(_write_numbers, config),
        )
        # Lightning keeps what it has written for the objects of a search
        self.__dict__.pop("config_dump", None)
        text = self._parser(str(self.config.subcommand)).dump(config, skip_none=False)
        self.run.config = text
        self.run.config_dict = yaml.safe_load(text)
        if self.config.subcommand == "fit" and self.checkpoint.get("loupe"):
            path = Path(str(config.ckpt_path))
            with taking_over(path):
                tell_differences(path, self.checkpoint.get("config"), self.run.config_dict)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Lightning's Trainer with the arguments that `training` implies."""
        training = self.config_init[str(self.subcommand)]["training"]
        given = dict(self._get(self.config_init, "trainer", default={}))
        try:
            path = str(self._get(self.config_init, "ckpt_path") or "")
            step = self.checkpoint.get("global_step")
            ours = self._callbacks(path)
            arguments = trainer_arguments(
                "fit" if self.request.command == "check" else self.request.command,
                training,
                given,
                self.run,
                checkpoint=path,
                resumed_step=step,
                words=self.request.line,
                more=ours,
            )
            if self.request.command == "check":
                return self.trainer_class(**trial_arguments(given), callbacks=ours)
            if self.subcommand == "fit":
                arguments["callbacks"] += vertex_uploads(os.environ, self.run, goes_on=bool(path))
            trainer = self.trainer_class(**{**arguments, **kwargs})
            # a user's own module may call its hooks itself
            is_ours = type(self.model).__module__.startswith("lightning_modules.")
            pass_over_idle_hooks([*trainer.callbacks, *([self.model] if is_ours else [])])  # pyright: ignore[reportAttributeAccessIssue]
            return trainer
        except (MisconfigurationException, TypeError, ValueError) as error:
            if isinstance(error, LoupeError):
                raise
            hint = "; use --trainer.accelerator=auto or cpu" if "backend found" in str(error) else ""
            raise LoupeError(f"trainer: {error}{hint}") from error

    def _callbacks(self, path: str) -> list[Callback]:
        """Those of this command that come from other sections than `training`."""
        section, trains = self.config_init[str(self.subcommand)], self.subcommand == "fit"
        check_sections(section)
        region = resolve_region(section["roi"], self.checkpoint or None, trains=trains, path=path)
        create_looks(section["inference"])  # refuses what means nothing
        self.uses = Uses(self.request.command, section["inference"], region)
        if not self.uses.is_plain:  # a fit may come before the others are trained
            section["inference"].check()
        found = self.uses.callbacks()
        if self.request.command == "predict":
            options, words = section["predictions"], self.request.line
            writer = prediction_writer(
                self.run, options, path=path, checkpoint=self.checkpoint, uses=self.uses, words=words
            )
            found = [writer, *found]  # before a cropper is asked about what is done already
        return found

    def after_instantiate_classes(self) -> None:
        """Let the checkpoint's card win over the data, and refuse a monitor that nobody logs."""
        card = self.checkpoint.get("loupe")
        own = f"{type(self.model).__module__}.{type(self.model).__qualname__}"
        if card and card["module"] != own:
            raise LoupeError(
                f"--ckpt_path: the checkpoint was written by {card['module']}, and the config has {own}; "
                f"use the config it was trained with (--config RUN/config.yaml)"
            )
        if card:
            self.model.adopt(card)
            if self.subcommand == "predict":
                self.datamodule.adopt(card)
        self.uses.look(self.datamodule, self.model, str(self._get(self.config_init, "ckpt_path") or ""))
        if self.request.command == "fit":
            self.check_monitor()

    def check_monitor(self) -> None:
        """LoupeError where the score that a fit watches will not be there."""
        check_monitor(self.config_init["fit"]["training"], self.model, self.trainer)

    def _run_subcommand(self, subcommand: str) -> None:
        self.exit_code = dispatch(self, partial(super()._run_subcommand, subcommand))

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        arguments = super()._prepare_subcommand_kwargs(subcommand)
        arguments["weights_only"] = True
        if subcommand == "predict":
            arguments["return_predictions"] = False  # the writer has them on disk already
        if subcommand in ("validate", "test"):
            arguments["verbose"] = False  # the scores are told by `ScoresFile`
        return arguments


def _plain_number(number: Any) -> int:
    return int(Training.batch_size if number == "auto" else number)  # until `settle_numbers`


def _write_numbers(config: Namespace, numbers: Mapping[str, Any]) -> None:
    """Into `training`, and wherever the parser's links have brought it."""
    for key, number in numbers.items():
        config.training[key] = number
    config.model.init_args.training = _plain_training(config.training)
    config.data.init_args.loader.batch_size = _plain_number(config.training.batch_size)


def _plain_training(training: Namespace | Training) -> dict[str, Any]:
    # Through JSON: checkpoints hold plain numbers, not the parser's PositiveInt.
    plain = json.loads(json.dumps(training.as_dict()))
    mode = Training(monitor=plain["monitor"], monitor_mode=plain["monitor_mode"]).mode
    return {**plain, "monitor_mode": mode}
