"""Where a fit stands, in the counters of Lightning's loops: three places only, each of which can be gone on from.

Lightning (2.6) keeps counters of what is ready, started, processed and completed, and guesses from their differences
where a checkpoint was made. That loses the validation of an epoch whose last batch was saved, counts a batch twice
after a stop between two hooks, and takes the end of ``max_steps`` for the end of an epoch. So a checkpoint of ours is
made at one of three places, and says so in a form about which there is nothing to guess.
"""

from typing import Any

from lightning.pytorch import Trainer

__all__ = ["resume_loops", "settle_loops", "stands_at"]


def stands_at(trainer: Trainer) -> tuple[int, int]:
    """Epoch (from 0) and how many of its batches are done; the whole of an epoch is the next one's (epoch, 0).

    Only before the validation of an epoch's end (epoch, all batches) is there.
    """
    epoch: Any = trainer.fit_loop.epoch_progress.current
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    done: int = batches.processed
    over = epoch.processed > epoch.completed and done >= trainer.num_training_batches
    return (epoch.completed + 1, 0) if over else (epoch.completed, done)


def settle_loops(trainer: Trainer, loops: dict[str, Any]) -> None:
    """Make the ``loops`` of a checkpoint say plainly where the fit stands.

    Between two epochs: as if nothing of the next one had begun. Between two batches: the epoch begun, so many batches
    done. Before a validation: the same, and a validation begun of which nothing is done. A checkpoint that somebody
    else's callback makes in the middle of a batch's end is left as Lightning has it.
    """
    here: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    if here.processed != here.completed:
        return
    epoch, done = stands_at(trainer)
    fit = loops["fit_loop"]
    progress, batches = fit["epoch_progress"], fit["epoch_loop.batch_progress"]
    validation = fit["epoch_loop.val_loop.batch_progress"]
    skipped = progress["total"]["completed"] - progress["current"]["completed"]
    begun = int(done > 0)
    for name, before in (("current", 0), ("total", skipped)):
        progress[name] = _counts(epoch + before, begun=begun)
        batches[name] = _counts(batches[name]["completed"])
        validation[name] = _counts(0, begun=int(trainer.validating))
    batches["is_last_batch"] = done >= trainer.num_training_batches
    if not begun:
        batches["current"] = _counts(0)


def resume_loops(trainer: Trainer) -> None:
    """Take away what Lightning guesses on top, once it has loaded the counters and before the first batch."""
    fit = trainer.fit_loop
    epoch_loop = fit.epoch_loop
    if not fit.restarting:
        return
    here: Any = epoch_loop.batch_progress.current
    if here.processed == 0:  # with max_steps it believes itself within an epoch
        for loop in (fit, epoch_loop, epoch_loop.val_loop):
            loop._restarting = False  # pyright: ignore[reportPrivateUsage]
            loop.reset_restart_stage()
        return
    fetcher = fit._data_fetcher  # pyright: ignore[reportPrivateUsage]
    assert fetcher is not None
    validated = epoch_loop.restarted_on_last and not epoch_loop.val_loop.restarted_mid_evaluation
    if validated and epoch_loop._should_check_val_fx(fetcher):  # pyright: ignore[reportPrivateUsage]
        # It goes once through the end of a batch whose validation was done, and counts a step that was counted.
        epoch_loop._batches_that_stepped -= 1  # pyright: ignore[reportPrivateUsage]


def _counts(completed: int, *, begun: int = 0) -> dict[str, int]:
    return {
        "ready": completed + begun,
        "started": completed + begun,
        "processed": completed,
        "completed": completed,
    }
