"""What Vertex AI says about where a job's files belong, and what Loupe does with it."""

import contextlib
import os
import shutil
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path

from lightning.pytorch import Trainer

from callbacks.remote_folder import LocalFolder, RemoteFolder, open_folder, told, try_folder
from callbacks.run_directory import RunDirectory
from callbacks.upload_record import RECORD, UploadRecord, read_record, stamp
from callbacks.upload_target import Target
from callbacks.uploads import Uploads
from cli.checkpoint_path import find_run
from cli.cluster import is_first_process
from cli.messages import print_on_each_node, print_once
from errors import LoupeError

__all__ = ["fetched_checkpoint", "opening_lines", "sending_the_rest", "vertex_targets", "vertex_uploads"]

#: Where Vertex AI mounts the buckets (Cloud Storage FUSE):
#: https://cloud.google.com/vertex-ai/docs/training/cloud-storage-file-system
GCS_MOUNT = Path("/gcs")
#: Small files without which a checkpoint is no run: a run that goes on elsewhere needs them.
_STATE = ("config*.yaml", "metrics.csv", "run.json", "evaluation/*.npz")
#: `best` before `last`, which must not be the newer one; `previous` is `last` until then.
_CHECKPOINTS = tuple(f"checkpoints/{name}.ckpt" for name in ("best", "previous", "last", "step_*"))
_MODEL = (
    "checkpoints/best.ckpt",
    "config.yaml",
    "metrics.csv",
    "run.json",
    "evaluation/*.npz",
    "report.html",
)
_FETCHED = ("last.ckpt", "best.ckpt", "previous.ckpt")


def vertex_targets(environment: Mapping[str, str]) -> list[Target]:
    """What goes where, by the variables that Vertex AI sets; none where it has set none.

    https://cloud.google.com/vertex-ai/docs/reference/rest/v1/CustomJobSpec (baseOutputDirectory). Event files come
    first, then what a run goes on from, then the model: what is there later makes sense with what is there already.

    Raises:
        LoupeError: an address that cannot be one, or a missing package.
    """
    targets: list[Target] = []
    folder = _folder("AIP_TENSORBOARD_LOG_DIR", environment)
    if folder is not None:
        by_hand = _command(folder)
        targets.append(
            Target(folder, "event files", ("tensorboard/**/*",), "tensorboard", grows=True, by_hand=by_hand)
        )
    folder = _folder("AIP_CHECKPOINT_DIR", environment)
    if folder is not None:
        by_hand = _command(folder)
        patterns = (*_STATE, *_CHECKPOINTS)
        targets.append(Target(folder, "checkpoints", patterns, "checkpoints", restores=True, by_hand=by_hand))
    folder = _folder("AIP_MODEL_DIR", environment)
    if folder is not None:
        by_hand = _command(folder)
        targets.append(Target(folder, "the model", _MODEL, "checkpoints", final=True, by_hand=by_hand))
    return targets


def vertex_uploads(environment: Mapping[str, str], run: RunDirectory, *, goes_on: bool) -> list[Uploads]:
    """The callback that serves the variables, where there are any; what it will do is printed.

    The first process tries each place by writing there.

    Args:
        environment: Where the variables are.
        run: The run.
        goes_on: Whether it goes on from a checkpoint; else one that is in AIP_CHECKPOINT_DIR already is told of.

    Raises:
        LoupeError: an address that cannot be one or cannot be written to, or a missing package.
    """
    targets = vertex_targets(environment)
    if not targets:
        return []
    uploads = Uploads(run, targets)
    for line in opening_lines(uploads):
        print_once(line)
    if is_first_process(environment):
        for target in targets:
            passing = try_folder(target.folder)
            if passing:
                print_once(f"warning: {passing}; it is tried again, and the training goes on")
            elif target.restores and not goes_on:
                _tell_of_earlier(target.folder)
    return [uploads]


def opening_lines(uploads: Uploads) -> list[str]:
    """What is used, for the opening output."""
    places = [f"{target.what} to {target.folder}" for target in uploads.targets if not target.final]
    final = [f"{target.what} to {target.folder} at the end" for target in uploads.targets if target.final]
    often = [f"every {uploads.every_s:.0f} s and after each epoch"] if places else []
    return [f"vertex: {', '.join([*places, *often, *final])}"]


@contextlib.contextmanager
def sending_the_rest(trainer: Trainer) -> Generator[None]:
    """Around all that writes into the run: what has changed is sent in the end, also where it fails or is stopped."""
    try:
        yield
    finally:
        for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
            if isinstance(callback, Uploads):
                callback.finish()


def fetched_checkpoint(
    given: str | None, command: str, files: Iterable[Path], parent: Path, environment: Mapping[str, str]
) -> str | None:
    """Have the run behind ``--ckpt_path last`` or ``best`` here, where only AIP_CHECKPOINT_DIR has it.

    A job that was preempted begins again in an empty container. The files come into a run directory below ``parent``,
    from which the run goes on as if it had never been elsewhere. On its first start there is nothing to go on from:
    a fit with ``last`` then begins anew, so that one command serves both.

    Returns:
        ``given``, or None where a fit is to begin anew.

    Raises:
        LoupeError: the place cannot be read. Not to begin anew is the safe side: that would replace what is there.
    """
    if given not in ("last", "best") or not environment.get("AIP_CHECKPOINT_DIR") or command == "check":
        return given
    with contextlib.suppress(LoupeError):
        if any((find_run(files, parent) / "checkpoints").glob("[!.]*.ckpt")):
            return given
    targets = [target for target in vertex_targets(environment) if not target.final]
    source = next(target for target in targets if target.restores)
    try:
        if source.folder.exists(f"{given}.ckpt") and source.folder.exists("config.yaml"):
            run = _fetch(targets, source.folder, parent)
            print_on_each_node(f"vertex: {given}.ckpt and its run fetched from {source.folder} into {run}")
            return given
    except LoupeError:
        raise
    except Exception as error:  # whatever a library of a network raises
        raise LoupeError(
            f"--ckpt_path {given}: AIP_CHECKPOINT_DIR ({source.folder}) cannot be read: {told(error)}"
        ) from error
    if command == "fit" and given == "last":
        print_once(f"vertex: nothing to go on from in {source.folder} yet; a new run begins")
        return None
    return given


def _fetch(targets: list[Target], checkpoints: RemoteFolder, parent: Path) -> Path:
    """Bring the run into a new folder below ``parent``: all of it under a temporary name, then at once."""
    parent.mkdir(parents=True, exist_ok=True)
    taken = [int(p.name[8:]) for p in parent.glob("version_*") if p.name[8:].isdigit()]
    run = parent / f"version_{max(taken, default=-1) + 1}"
    temporary = parent / f".fetched_{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        recorded = temporary / RECORD
        with contextlib.suppress(FileNotFoundError):
            checkpoints.get(RECORD, recorded)
        own = read_record(recorded)
        recorded.unlink(missing_ok=True)
        record = UploadRecord(temporary)
        for target in targets:
            # Of event files only the run's own: others may lie beside them. A step_*.ckpt goes on being removed there.
            names = own.get(target.key, {})
            wanted = [name for name in names if not name.startswith("step_")]
            for name in dict.fromkeys((*wanted, *(_FETCHED if target.restores else ()))):
                path = temporary / _place(target, name)
                with contextlib.suppress(FileNotFoundError):
                    target.folder.get(name, path)
            record.announce(target.key, names)
            for name in names:
                record.of(target.key)[name] = stamp(temporary / _place(target, name))
        record.write()
        try:
            temporary.rename(run)
        except OSError:
            if not (run / "checkpoints").is_dir():  # else another process of this machine was quicker
                raise
        return run
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _place(target: Target, name: str) -> Path:
    """Where in a run directory a file of a target belongs."""
    beside = target.restores and not name.endswith(".ckpt")
    return Path(name) if beside else Path(target.below) / name


def _folder(variable: str, environment: Mapping[str, str]) -> RemoteFolder | None:
    address = environment.get(variable, "").strip()
    if not address:
        return None
    try:
        bucket, _, rest = address.removeprefix("gs://").strip("/").partition("/")
        if address.startswith("gs://") and bucket and (GCS_MOUNT / bucket).is_dir():
            path = GCS_MOUNT / bucket / rest
            return LocalFolder(path, address.rstrip("/"))
        return open_folder(address)
    except LoupeError as error:
        raise LoupeError(f"{variable}: {error}") from error


def _command(folder: RemoteFolder) -> str:
    """What a user types to copy one file where uploads failed."""
    if folder.address.startswith("gs://"):
        return "gcloud storage cp"
    if folder.address.startswith("s3://"):
        return "aws s3 cp"
    return "cp" if isinstance(folder, LocalFolder) else ""


def _tell_of_earlier(folder: RemoteFolder) -> None:
    with contextlib.suppress(Exception):  # only a warning
        if folder.exists("last.ckpt"):
            print_once(
                f"warning: {folder} holds last.ckpt of an earlier run, which this one will replace; "
                f"--ckpt_path last goes on from it"
            )
