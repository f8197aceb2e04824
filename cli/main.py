"""`python train.py COMMAND ...`: from words to a run, and from a mistake to a few lines and exit code 2."""

import atexit
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from cli.layers import Layer, Request, at, flatten, read_request
from cli.merge import Merged, merge
from cli.messages import print_on_each_node
from cli.yaml_file import read_yaml
from errors import LoupeError

__all__ = ["CONFIGS", "main"]

CONFIGS = Path(__file__).resolve().parent.parent / "configs"

_USAGE = """usage: python train.py COMMAND --config FILE [--config FILE ...] [--key=value ...]

commands:
  fit       train, and keep the best and the last weights
  validate  score the validation data with trained weights
  test      score the test data with trained weights
  predict   write predictions for pictures
  calibrate measure on validation data how right the probabilities are, and keep what mends them in the checkpoint
  export    turn trained weights into a file for another runtime, proven equal; exit code 1 where it is not
  check     look at the data before a fit, and try one batch; exit code 1 where training would fail or be unsound
  compare   put runs side by side: scores, curves, what differs in their settings
  report    write the page about a run anew

examples:
  python train.py fit --config configs/seg_unet.yaml
  python train.py fit --config configs/seg_unet.yaml --data.root FOLDER --training.epochs=20
  python train.py test --config runs/seg_unet/version_0/config.yaml --ckpt_path best

all settings of a command: python train.py fit --help
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    0, or 1 where `check` found the data unsound or an exported model is not equal, or 2 for a user's mistake, told on
    stderr without a traceback, or 143 (SIGTERM) and 130 (Ctrl-C) for a run that was stopped.
    """
    words = list(sys.argv[1:] if args is None else args)
    if not words or words[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if words else 2
    origins: dict[str, str] = {}
    try:
        if words[0] in ("compare", "report"):
            from cli.compare import run_compare, run_report  # which other commands need not load

            return run_compare(words[1:]) if words[0] == "compare" else run_report(words[1:])
        request = read_request(words, CONFIGS / "training" / "default.yaml")
        _add_demo(request)
        merged = merge(request.layers)
        origins = merged.origins
        return _run(request, _parser_words(request, merged))
    except LoupeError as error:
        return _tell(error, origins)
    except KeyboardInterrupt:  # while all is imported and built; later Lightning and `Interruption` take it
        print_on_each_node("stopped", file=sys.stderr)
        return 128 + 2
    except ValueError as error:
        # jsonargparse wraps what a constructor raises.
        cause = error.__cause__
        while cause is not None and not isinstance(cause, LoupeError):
            cause = cause.__cause__
        if cause is None:
            raise
        return _tell(cause, origins)


def _tell(error: LoupeError, origins: dict[str, str]) -> int:
    print_on_each_node(f"error: {_message(error, origins)}", file=sys.stderr)
    return 2


def _run(request: Request, words: list[str]) -> int:
    # Everything heavy is imported here: mistakes that the layers show need no torch.
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from callbacks.interruption import exit_code
    from cli.app import LoupeCLI
    from cli.full_disk import full_disk_told
    from cli.upstream_warnings import filter_upstream_warnings

    atexit.unregister(_leave_process_group)
    atexit.register(_leave_process_group)
    with filter_upstream_warnings(), full_disk_told():
        try:
            return LoupeCLI(request, words).exit_code
        except SIGTERMException:
            return exit_code()  # Lightning's own would be 0, that of a run that was finished
        except SystemExit as error:
            if isinstance(error.__context__, KeyboardInterrupt):
                return 128 + 2
            raise


def _leave_process_group() -> None:
    """Where there are several processes: one that ends with its group's threads at work is at times aborted."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _add_demo(request: Request) -> None:
    """Where no data is named, one more layer over the first config: the demo data and its small settings."""
    named: dict[str, object] = {}
    for layer in request.layers:
        section = layer.values.get("data")
        named.update(flatten({"data": section}) if isinstance(section, dict) else {})
    named.update({key: text for key, text in request.flags.items() if text not in (None, "null")})
    keys = [f"data.{inner}{name}" for inner in ("", "init_args.") for name in ("root", "dataset")]
    if (
        request.command == "predict"
        or "data" in named
        or any(named.get(key) for key in keys)
        or not request.files
    ):
        return
    demo = read_yaml(CONFIGS / "demo.yaml")
    kind = next(
        (layer.values["data"]["class_path"] for layer in request.layers[::-1] if _names_data(layer)), None
    )
    # Above the experiment, whose recipe it replaces, and below everything else that the user said.
    request.layers[2:2] = [Layer("configs/demo.yaml", demo[key]) for key in ("all", kind) if key in demo]
    request.demo = True


def _names_data(layer: Layer) -> bool:
    data = layer.values.get("data")
    return isinstance(data, dict) and isinstance(data.get("class_path"), str)


def _parser_words(request: Request, merged: Merged) -> list[str]:
    """The command, each file's own settings as YAML text, the flags, and the one merged `training` section."""
    root = request.parsed_as
    words = [root]
    for layer in request.layers[1:-1]:
        values = {key: value for key, value in layer.values.items() if value is not None}
        if values:
            words.append(f"--config={_absolute(json.dumps(values), root)}")
    words += [_absolute(word, root) for word in request.words]
    words.append(f"--training={_absolute(json.dumps(merged.training), root)}")
    return words


def _absolute(text: str, root: str) -> str:
    """`${a.b}` counts from the root of the file; the parser keeps everything below the command."""
    return re.sub(r"\$\{(?=[A-Za-z_][\w.]*\})", f"${{{root}.", text)


def _message(error: LoupeError, origins: dict[str, str]) -> str:
    """The error, with the layer that said the setting it begins with."""
    text = str(error)
    key = re.match(r"training\.([\w.]+):", text)
    origin = (origins.get(key.group(1)) or origins.get(f"{key.group(1)}.type")) if key else None
    return f"{text} ({at(origin)})" if origin else text
