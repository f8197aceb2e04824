"""Copies of a run elsewhere while it goes on: whole files, by a thread, never in the way of the training."""

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.remote_folder import RemoteFolder, told
from callbacks.run_directory import RunDirectory
from callbacks.upload_record import Stamp, UploadRecord, stamp, unchanging
from callbacks.upload_target import Target

__all__ = ["Uploads"]

#: Seconds to the first pass of a fit, so that its curves are soon seen; and between one after an epoch and the next.
_FIRST_S, _BETWEEN_S = 5.0, 5.0
#: Seconds from a failed pass to the next; each further failure doubles it.
_RETRY_S, _LONGEST_RETRY_S = 2.0, 300.0
#: Seconds that the end of a fit waits for the last files; and where the run was asked to end, as Vertex AI kills a
#: process about 30 s after SIGTERM and the checkpoint must be written first.
_END_S, _INTERRUPTED_S = 300.0, 20.0
_LAST_TRIES = 4
#: Failures of single files that end a pass: the network is gone, and each may take its time to find that out.
_TOO_MANY = 3


@dataclass
class _State:
    """How it stands with one target."""

    target: Target
    failed: str = ""


class Uploads(Callback):
    """Copies changed files of the run to other folders: at intervals, after each epoch, and at the end.

    On the first process only, in a thread: no step waits, and no failure ends the training. A failure is told once,
    and tried again after growing pauses. What this run has put there, and has removed here since, is removed there;
    nothing else ever is.

    Args:
        run: The run whose files are copied.
        targets: Where to, the first first: what the last ones hold must make sense with what the first ones hold.
        every_s: Seconds between two passes; three times as long as the last pass took, where that is more.
        retry_s: Seconds from the first failure to the next try.
    """

    def __init__(
        self,
        run: RunDirectory,
        targets: Sequence[Target],
        *,
        every_s: float = 60.0,
        retry_s: float = _RETRY_S,
    ) -> None:
        self.run = run
        self.targets = tuple(targets)
        self.every_s = every_s
        self.retry_s = retry_s
        self._states = [_State(target) for target in targets]
        self._record: UploadRecord | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Condition()
        self._wanted = self._ending = self._ended = self._interrupted = False
        self._failures = 0
        self._names: set[str] = set()
        self._deadline = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, on the first process."""
        quiet = trainer.fast_dev_run or not self.run.claimed  # pyright: ignore[reportAttributeAccessIssue]
        if trainer.is_global_zero and self._thread is None and not quiet:
            self._record = UploadRecord(self.run.path)
            self._thread = threading.Thread(target=self._work, name="uploads", daemon=True)
            self._thread.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What the epoch before has saved may go; its own end would be too early, as checkpoints come last there."""
        if self._thread is not None and trainer.current_epoch > 0:
            with self._wake:
                self._wanted = True
                self._wake.notify()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The model may go, once `finish` is called."""
        self._ended = True

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """There is little time; the state is saved after this, and `finish` sends it."""
        self._interrupted = True

    def finish(self, within_s: float | None = None) -> None:
        """Send what has changed since, and say what has arrived; the command line calls it when all is written.

        Again, or where nothing was begun, it does nothing.

        Args:
            within_s: Seconds it may take at most; None is 300, and 20 where the run was asked to end or failed.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        bound = within_s if within_s is not None else _INTERRUPTED_S if self._interrupted else _END_S
        self._deadline = time.monotonic() + bound
        with self._wake:
            self._ending = True
            self._wake.notify()
        thread.join(bound)
        self._tell_end()

    # -- the thread ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        pause = min(_FIRST_S, self.every_s)
        while not self._wait(pause):
            began = time.monotonic()
            if self._pass():
                self._failures = 0
                pause = max(self.every_s, 3 * (time.monotonic() - began))
            else:
                pause = min(self.retry_s * 2**self._failures, _LONGEST_RETRY_S)
                self._failures += 1
        for tried in range(_LAST_TRIES):
            pause = self.retry_s * 2**tried
            if self._pass(last=True) or tried == _LAST_TRIES - 1 or time.monotonic() + pause > self._deadline:
                return
            time.sleep(pause)

    def _wait(self, pause: float) -> bool:
        """Wait for the next pass; whether it is the last one."""
        until = time.monotonic() + pause
        with self._wake:
            # An epoch that is over does not cut a pause after a failure short.
            soon = time.monotonic() + (pause if self._failures else min(_BETWEEN_S, pause))
            while not self._ending:
                now = time.monotonic()
                if now >= (soon if self._wanted else until):
                    break
                self._wake.wait((soon if self._wanted else until) - now)
            self._wanted = False
            return self._ending

    def _pass(self, *, last: bool = False) -> bool:
        """Bring all targets up to date; whether that went well."""
        record, well = self._record, True
        assert record is not None
        listed = [
            (state, state.target.files(self.run.path))
            for state in self._states
            if (last and self._ended) or not state.target.final
        ]
        for state, files in listed:
            record.announce(state.target.key, files)
        self._keep(record, listed)
        for state, files in listed:
            if self._ending and not last:
                return True  # the last pass takes them in order again
            failed = self._bring(state, files, record, last=last)
            if failed:
                well = False
                self._tell_failure(state, files, record, failed)
            else:
                self._tell_recovery(state)
        with contextlib.suppress(OSError):
            record.write()
        return well

    def _keep(self, record: UploadRecord, listed: list[tuple[_State, dict[str, Path]]]) -> None:
        """Write down the names before the files go: what a process that dies now has sent must be known as its own."""
        if record.names == self._names:
            return
        with contextlib.suppress(
            Exception
        ):  # where it cannot be sent the files cannot either, and that is told
            record.write()
            for state, _ in listed:
                if state.target.restores:
                    state.target.folder.put(record.path, record.path.name)
            self._names = record.names

    def _bring(self, state: _State, files: dict[str, Path], record: UploadRecord, *, last: bool) -> str:
        """Send what has changed and remove what is gone; what failed first, "" where nothing did."""
        known, failures = record.of(state.target.key), list[str]()
        gone = [name for name in known if name not in files] if _is_there(self.run.path) else []
        for name in (*files, *gone):
            if (self._ending and not last) or len(failures) == _TOO_MANY:
                break
            try:
                if name in files:
                    self._send(state, name, files[name], known)
                else:
                    state.target.folder.remove(name)
                    del known[name]
            except Exception as error:  # whatever a library of a network raises
                failures.append(told(error))
        return failures[0] if failures else ""

    def _send(self, state: _State, name: str, path: Path, known: dict[str, Stamp | None]) -> None:
        now, folder = stamp(path), state.target.folder
        if now is None or known.get(name) == now:
            return
        twin = next((other for other, its in known.items() if its == now), None)
        known[name] = None  # neither the old file nor, for certain, the new one
        if twin is None or not _copied(folder, twin, name):
            with unchanging(path, self.run.path, grows=state.target.grows) as source:
                if source is None:
                    return  # pruned since it was listed
                folder.put(source, name)
        # What was replaced while it was read may be either, and must not count as this one: `previous` is copied by it.
        known[name] = now if state.target.grows or stamp(path) == now else None

    # -- what is told -------------------------------------------------------------------------------------------

    def _tell_failure(self, state: _State, files: dict[str, Path], record: UploadRecord, reason: str) -> None:
        if not state.failed:
            missing = _few(record.missing(state.target.key, files))
            print(
                f"warning: upload to {state.target.folder} failed: {reason}; not there yet: {missing}; "
                f"it is tried again, and the training goes on",
                flush=True,
            )
        state.failed = reason

    def _tell_recovery(self, state: _State) -> None:
        if state.failed:
            state.failed = ""
            print(f"note: uploads to {state.target.folder} work again", flush=True)

    def _tell_end(self) -> None:
        record = self._record
        assert record is not None
        for state in self._states:
            target = state.target
            files = target.files(self.run.path)
            if not files or (target.final and not self._ended):
                continue
            missing = record.missing(target.key, files)
            if not missing:
                print(f"uploaded to {target.folder}: {target.what}, {len(files)} files", flush=True)
                continue
            hint = f"; by hand: {target.by_hand_for(missing, files)}" if target.by_hand else ""
            reason = state.failed or "there was no time left"
            print(f"warning: not in {target.folder}: {_few(missing)} ({reason}){hint}", flush=True)


def _is_there(run: Path) -> bool:
    """Whether the run directory can be seen: copies must not go with a disk that has gone."""
    return (run / "config.yaml").exists()


def _copied(folder: RemoteFolder, name: str, other: str) -> bool:
    """Copy there what is there under another name (`previous` was `last`); whether that could be done."""
    try:
        folder.copy(name, other)
    except Exception:  # not every store can, and the file may be gone: it is sent then
        return False
    return True


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown or "nothing"
