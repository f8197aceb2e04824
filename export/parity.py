"""How equal an exported model is to `predict`, from the file of a picture to the score."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from datamodules import LoupeDataModule, Target, UnreadableError
from errors import LoupeError
from export.options import Export
from export.pictures import Picture, PictureFiles
from export.reference import Reference
from export.runtimes import Runtime
from export.scores import METRICS, Score, decided
from inference.roi import Region
from inference.roi_window import roi_window
from lightning_modules import LoupeModule

__all__ = ["Bounds", "Parity", "measure_parity"]

Answers = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Bounds:
    """The largest differences that an artefact is handed out with; None: no bound."""

    max_error: float | None
    max_metric_difference: float

    @classmethod
    def of(cls, options: Export) -> "Bounds":
        """As the options say, with their defaults filled in."""
        int8, error, metric = options.int8.enabled, options.max_error, options.max_metric_difference
        return cls(
            max_error=(None if int8 else 0.001) if error is None else error,
            max_metric_difference=(0.02 if int8 else 0.002) if metric is None else metric,
        )


@dataclass
class Parity:
    """What the comparison gave.

    Attributes:
        pictures: How many were compared.
        metric: Name of the score.
        max_error: Largest difference of a probability, or of a box as a share of the picture's side, on equal pixels.
        mean_error: The mean over pictures of the mean difference.
        equal_answers: Share of equal classes, pixels of masks, or of boxes within a pixel.
        predicted_score: That of `predict`, from the files.
        exported_score: That of the exported model, from the files.
        predicted_score_of_whole_files: That of `predict` from the files as they are, where the exported model is given
            pictures of a fixed size, and the two other scores are of these; None where it takes any size.
        read_otherwise: Pictures that `predict` decodes at a fraction of their size, and a program that uses the
            exported model does not; the scores hold the difference, the errors do not.
        max_error_from_files: The largest difference where that one is not left out.
        windows_differ: Pictures whose region of interest differs by a pixel, by rounding; their other answers are only
            in the scores.
        left_out: Pictures that cannot be read, or whose mask cannot (data.read.on_error=skip).
    """

    pictures: int
    metric: str
    max_error: float
    mean_error: float
    equal_answers: float
    predicted_score: float | None
    exported_score: float | None
    predicted_score_of_whole_files: float | None
    read_otherwise: int
    max_error_from_files: float
    windows_differ: int
    left_out: int = 0
    failed: list[str] = field(default_factory=list)

    @property
    def metric_difference(self) -> float | None:
        """None where neither has a score: no picture has what it judges."""
        if self.predicted_score is None and self.exported_score is None:
            return None
        if self.predicted_score is None or self.exported_score is None:
            return math.inf
        return abs(self.predicted_score - self.exported_score)

    def judged_by(self, bounds: Bounds) -> "Parity":
        """With what is wrong in ``failed``; comparisons with NaN count as wrong."""
        self.failed = []
        if bounds.max_error is not None and not self.max_error <= bounds.max_error:
            self.failed.append(f"max error {self.max_error:.3g} is above {bounds.max_error:g}")
        difference = self.metric_difference
        if difference is None and bounds.max_error is None:
            self.failed.append(
                f"no picture that was compared has a {self.metric}, and there is no other bound"
            )
        if difference is not None and not difference <= bounds.max_metric_difference:
            self.failed.append(
                f"{self.metric} {_shown(self.exported_score)} differs from {_shown(self.predicted_score)} by more than "
                f"{bounds.max_metric_difference:g}"
            )
        return self


class _Errors:
    """Differences, picture by picture."""

    def __init__(self) -> None:
        self.largest, self.means, self.equal = 0.0, list[float](), list[float]()

    def add(self, ours: Answers, theirs: Answers, size_hw: tuple[int, int], equal: float) -> None:
        side = np.array([size_hw[1], size_hw[0]] * 2, dtype=np.float64)
        found: list[np.ndarray] = []
        for name, value in ours.items():
            if name == "mask":
                continue
            if value.shape != theirs[name].shape:
                raise AssertionError(f"{name} is {theirs[name].shape} and should be {value.shape}")
            difference = np.abs(value.astype(np.float64) - theirs[name])
            found.append((difference / side if name.endswith("_xyxy_px") else difference).ravel())
        every = np.concatenate(found)
        # NaN is the largest of all
        self.largest = float(np.max([self.largest, every.max()]))
        self.means.append(float(every.mean()))
        self.equal.append(equal)


def measure_parity(
    runtime: Runtime,
    module: LoupeModule,
    data: LoupeDataModule,
    options: Export,
    *,
    files: PictureFiles,
    region: Region | None,
) -> Parity:
    """Run both on validation pictures, from their files.

    Args:
        runtime: The exported model in its own runtime.
        module: On the CPU, told what answers in its network's place.
        data: Set up; its validation part is read.
        options: How many pictures.
        files: Reads pictures as the exported model takes them.
        region: The cropper in front.

    Raises:
        LoupeError: There are no validation pictures; one cannot be read.
    """
    samples = data.samples["val"]
    if not len(samples):
        raise LoupeError("the parity gate compares validation pictures, and the data has none")
    reference, target = Reference(module, region), data.target(samples)
    plain, from_files = _Errors(), _Errors()
    scores, whole_score = tuple(Score(module) for _ in range(2)), Score(module)
    whole = None if files.picture_size is None else files.of_any_size()
    otherwise = windows = count = 0
    for picture, truth in _pictures(files, samples.paths, options.pictures, target):
        count += 1
        theirs = runtime(picture.batch)
        own = reference.of_pixels(picture)
        deep_or_fixed = files.floats or files.picture_size is not None
        from_file = own
        if not deep_or_fixed and reference.reads_otherwise(picture):
            otherwise += 1
            from_file = reference.of_file(picture)
        size = picture.size_hw
        if region is not None and not _same_window(region, own, theirs, size):
            windows += 1
            plain.add(_only_roi(own), theirs, size, 1.0)
        else:
            plain.add(own, theirs, size, _equal(module, own, theirs))
        from_files.add(from_file, theirs, size, 1.0)
        for score, answers in zip(scores, (from_file, theirs), strict=True):
            score.add(answers, truth, size)
        if whole is not None:
            large = whole.read(picture.index, picture.path)
            whole_score.add(reference.of_file(picture), _truth(large, target), large.size_hw)
    if not count:
        raise LoupeError(f"none of the validation pictures can be read, {samples.paths[0]} among them")
    own_score, their_score = (score.value() for score in scores)
    return Parity(
        pictures=count,
        metric=METRICS[module.learns[0]],
        max_error=plain.largest,
        mean_error=float(np.mean(plain.means)),
        equal_answers=float(np.mean(plain.equal)),
        predicted_score=own_score,
        exported_score=their_score,
        predicted_score_of_whole_files=None if whole is None else whole_score.value(),
        read_otherwise=otherwise,
        max_error_from_files=from_files.largest,
        windows_differ=windows,
        left_out=len(files.left_out),
    )


def _pictures(
    files: PictureFiles, paths: Sequence[str], count: int | None, target: Target
) -> Iterator[tuple[Picture, dict[str, Tensor]]]:
    """Each picture, and what is true of it, where the picture lies in what the exported model takes."""
    for picture in files.of(paths, count):
        try:
            truth = _truth(picture, target)
        except UnreadableError as error:
            files.leave_out(picture.path, error)
        else:
            yield picture, truth


def _truth(picture: Picture, target: Target) -> dict[str, Tensor]:
    truth = target.finish({"image": picture.image, **target(picture.index, picture.fit)})
    return {k: v.as_subclass(Tensor)[None] for k, v in truth.items() if k != "image"}


def _equal(module: LoupeModule, own: Answers, theirs: Answers) -> float:
    """Share of equal answers for one picture."""
    if "mask" in own:
        return float((own["mask"] == theirs["mask"]).mean())
    if "box_xyxy_px" in own:
        return float(np.abs(own["box_xyxy_px"] - theirs["box_xyxy_px"]).max() <= 1)
    answers = [decided(module, torch.from_numpy(np.asarray(one["probs"]))) for one in (own, theirs)]
    return float(torch.equal(*answers))


def _same_window(region: Region, own: Answers, theirs: Answers, size_hw: tuple[int, int]) -> bool:
    windows = [
        roi_window(
            torch.from_numpy(np.asarray(one["roi_xyxy_px"])),
            torch.from_numpy(np.asarray(one["roi_confidence"])),
            torch.tensor([size_hw]),
            threshold=region.threshold,
            margin=region.margin,
        )
        for one in (own, theirs)
    ]
    return torch.equal(*windows)


def _only_roi(answers: Answers) -> Answers:
    return {name: value for name, value in answers.items() if name.startswith("roi_")}


def _shown(score: float | None) -> str:
    return "none" if score is None else f"{score:.4f}"
