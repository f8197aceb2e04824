"""`python train.py export`: a checkpoint as a file for another runtime; exit code 1 where it is not proven equal."""

from pathlib import Path
from typing import Any

from callbacks import RunDirectory
from cli.messages import print_once
from cli.uses import Uses
from datamodules import LoupeDataModule
from errors import LoupeError
from inference import create_response, file_fingerprint, load_module

__all__ = ["run_export"]


def run_export(
    section: Any,
    checkpoint: Path,
    data: LoupeDataModule,
    *,
    uses: Uses,
    run: RunDirectory,
    words: list[str],
) -> int:
    """Write the file and prove it on validation pictures; the exit code: 0, or 1 where it is withheld.

    Args:
        section: All settings of the command.
        checkpoint: Whose weights are exported.
        data: Has the validation pictures; not set up.
        uses: What the model is asked: flips, scales, ensemble and a cropper go into the file.
        run: Where the file goes, where `export.directory` does not say.
        words: The command line.
    """
    from export import export_model  # with packages that no other command needs

    options = section["export"]
    if uses.inference.tiles.enabled:
        raise LoupeError(
            "inference.tiles cuts a picture up outside of the network, which an exported file cannot do; export the "
            "model without it, and cut the picture up where the file is used"
        )
    module = load_module(checkpoint)
    data.adopt({"input": module.input_contract})
    data.setup("validate")
    folder = run.path / "export" if options.directory is None else Path(options.directory).expanduser()
    facts = {
        "checkpoint": str(checkpoint),
        "fingerprint": file_fingerprint(checkpoint),
        "config": run.config,
        "inference": uses.facts(),
        "command": list(words),
    }
    result = export_model(
        module,
        data,
        options,
        response=create_response(module, uses.inference),
        region=uses.region,
        folder=folder,
        facts=facts,
    )
    for line in result.lines():
        print_once(line)
    return 0 if result.passed else 1
