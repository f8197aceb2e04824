"""RandAugment, TrivialAugment and the presets: torchvision's operations, for masks, boxes, floats and many channels."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from datamodules import Augment, ClassificationDataModule, Loader
from datamodules.augment import create_augmentation, seeded
from datamodules.random_operations import RandomOperations
from errors import LoupeError
from tests.conftest import Outcome
from tests.tasks import CLASSIFICATION, SIZE, write_task

Loupe = Callable[..., Outcome]
FILL = {tv_tensors.Image: 114, tv_tensors.Mask: 255}
BILINEAR = v2.InterpolationMode.BILINEAR
PRESETS = ("light", "medium", "strong", "randaugment", "trivialaugment")
OPERATIONS = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color"),
    *("contrast", "sharpness", "posterize", "solarize", "auto_contrast", "equalize"),
)
#: Ours -> torchvision's name in its tables of magnitudes: shear_x -> ShearX.
NAMES = {name: name.title().replace("_", "") for name in OPERATIONS}
RECIPES = {
    "randaugment": (RandomOperations.randaugment, v2.RandAugment),
    "trivialaugment": (RandomOperations.trivialaugment, v2.TrivialAugmentWide),
}


def picture(channels: int = 3, height: int = 37, width: int = 51) -> tv_tensors.Image:
    generator = torch.Generator().manual_seed(1)
    low = torch.randint(40, 220, (1, channels, 6, 8), generator=generator).float()
    smooth = torch.nn.functional.interpolate(low, (height, width), mode="bicubic")[0]
    return tv_tensors.Image(smooth.clamp(0, 255).to(torch.uint8))


def theirs(image: Tensor, name: str, magnitude: float) -> Tensor:
    """torchvision 0.29, `_AutoAugmentBase._apply_image_or_video_transform`, written out."""

    def affine(translate: list[int], shear: list[float], center: list[float] | None) -> Tensor:
        return F.affine(
            image,
            angle=0.0,
            translate=translate,
            scale=1.0,
            shear=shear,
            interpolation=BILINEAR,
            fill=114,
            center=center,
        )

    magnitude = round(magnitude, 5)  # 32 * 15 / 30 is 15.999999 in their float32
    whole = int(magnitude)
    slope = math.degrees(math.atan(magnitude))
    does: dict[str, Callable[[], Tensor]] = {
        "Identity": lambda: image,
        "ShearX": lambda: affine([0, 0], [slope, 0.0], [0, 0]),
        "ShearY": lambda: affine([0, 0], [0.0, slope], [0, 0]),
        "TranslateX": lambda: affine([whole, 0], [0.0, 0.0], None),
        "TranslateY": lambda: affine([0, whole], [0.0, 0.0], None),
        "Rotate": lambda: F.rotate(image, magnitude, interpolation=BILINEAR, fill=114),
        "Brightness": lambda: F.adjust_brightness(image, 1.0 + magnitude),
        "Color": lambda: F.adjust_saturation(image, 1.0 + magnitude),
        "Contrast": lambda: F.adjust_contrast(image, 1.0 + magnitude),
        "Sharpness": lambda: F.adjust_sharpness(image, 1.0 + magnitude),
        "Posterize": lambda: F.posterize(image, int(magnitude)),
        "Solarize": lambda: F.solarize(image, round(255 * magnitude, 2)),
        "AutoContrast": lambda: F.autocontrast(image),
        "Equalize": lambda: F.equalize(image),
    }
    return does[name]()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_each_operation_is_torchvisions(recipe: str, name: str, channels: int) -> None:
    make, judge = RECIPES[recipe]
    ours = make(FILL, turns=True, colours=True)
    image = picture(channels)
    magnitudes, signed = judge._AUGMENTATION_SPACE[NAMES[name]]
    scale = magnitudes(31, *image.shape[-2:])
    changed = 0
    for place in (0, 4, 9, 15, 22, 30):
        for sign in (1, -1) if signed else (1,):
            magnitude = 0.0 if scale is None else sign * float(scale[place])
            expected = theirs(image, NAMES[name], magnitude)
            result = ours.operate(image, name, place, sign)
            assert type(result) is tv_tensors.Image and result.dtype == torch.uint8
            difference = (result.int() - expected.int()).abs()
            # the rotation's angle differs by float32's last digit, and with it a rounded pixel
            assert difference.max() <= 1 and (difference > 0).float().mean() < 0.002, (place, sign)
            changed += not torch.equal(result, image)
    assert (changed > 0) == (name != "identity" and (name, channels) != ("color", 1))


def test_what_is_chosen_is_what_torchvision_chooses_from() -> None:
    for make, judge in RECIPES.values():
        ours = make(FILL, turns=True, colours=True)
        assert {NAMES[name] for name in ours.names} == set(judge._AUGMENTATION_SPACE)
        still = make(FILL, turns=False, colours=True).names
        assert set(ours.names) - set(still) == {"rotate", "shear_x", "shear_y"}
    ours = RandomOperations.randaugment(FILL, turns=True, colours=True)
    assert (ours.count, ours.magnitude) == (v2.RandAugment().num_ops, v2.RandAugment().magnitude)


def rectangle(box: tuple[int, int, int, int], size: int = 64) -> dict[str, Any]:
    """A white rectangle on black as image, mask and box."""
    x1, y1, x2, y2 = box
    mask = torch.zeros(size, size, dtype=torch.uint8)
    mask[y1:y2, x1:x2] = 1
    return {
        "image": tv_tensors.Image((mask * 255).expand(3, -1, -1).contiguous()),
        "mask": tv_tensors.Mask(mask),
        "box": tv_tensors.BoundingBoxes([list(box)], format="XYXY", canvas_size=(size, size)),  # type: ignore[call-arg]
    }


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ["translate_x", "translate_y"])
def test_mask_and_box_move_with_the_image(name: str, sign: int) -> None:
    """Bin 9 of 30 of 150/331 of 64 pixels is 8.7: eight."""
    ours = RandomOperations.randaugment(FILL, turns=False, colours=True)
    moved = {key: ours.operate(value, name, 9, sign) for key, value in rectangle((20, 24, 36, 44)).items()}
    dx, dy = (8 * sign, 0) if name == "translate_x" else (0, 8 * sign)
    assert moved["box"][0].tolist() == [20 + dx, 24 + dy, 36 + dx, 44 + dy]
    assert type(moved["mask"]) is tv_tensors.Mask
    y, x = (moved["mask"] == 1).nonzero(as_tuple=True)
    assert [x.min(), y.min(), x.max() + 1, y.max() + 1] == moved["box"][0].tolist()
    assert torch.equal(moved["image"][0] == 255, moved["mask"] == 1)
    assert torch.equal(moved["image"][0] == 114, moved["mask"] == 255), "what moves in is grey, and void"
    assert (moved["mask"] == 255).sum() == 8 * 64


@pytest.mark.parametrize("name", ["shear_x", "shear_y", "rotate"])
def test_masks_turn_with_the_image(name: str) -> None:
    ours = RandomOperations.trivialaugment(FILL, turns=True, colours=True)
    sample = rectangle((24, 26, 44, 40))
    for place in (5, 12):
        moved = {key: ours.operate(value, name, place, -1) for key, value in sample.items()}
        seen, marked = moved["image"][0] > 184, moved["mask"] == 1
        assert (seen != marked).sum() <= 0.1 * marked.sum(), "the same place, but for half pixels at its edge"
        assert not torch.equal(marked, sample["mask"] == 1)
        assert set(moved["mask"].unique().tolist()) <= {0, 1, 255}


def test_colours_leave_masks_and_boxes_alone() -> None:
    ours = RandomOperations.randaugment(FILL, turns=True, colours=True)
    sample = rectangle((3, 4, 20, 30))
    for name in ("brightness", "posterize", "solarize", "equalize"):
        assert all(ours.operate(sample[key], name, 30) is sample[key] for key in ("mask", "box"))


@pytest.mark.parametrize("preset", PRESETS)
def test_boxes_are_never_turned(preset: str) -> None:
    """The box stays the smallest around the pixels that are seen: nothing was turned or sheared."""
    augment = create_augmentation(Augment(preset=preset), turns=False)  # type: ignore[arg-type]
    assert augment is not None
    for position in range(60):
        with seeded(0, 0, position):
            moved = augment(rectangle((20, 24, 40, 36)))
        y, x = (moved["mask"] == 1).nonzero(as_tuple=True)
        if len(y):
            seen = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()
            assert (moved["box"][0] - seen).abs().max() <= 1.0
            area = float((x.max() + 1 - x.min()) * (y.max() + 1 - y.min()))
            assert len(y) == area, "a rectangle stays a rectangle"


@pytest.mark.parametrize("name", OPERATIONS)
def test_floats_and_bytes_agree(name: str) -> None:
    image = picture()
    unit = tv_tensors.Image(image.float() / 255)
    for make, _ in RECIPES.values():
        for_bytes = make(FILL, turns=True, colours=True)
        for_floats = make({tv_tensors.Image: 114 / 255, tv_tensors.Mask: 255}, turns=True, colours=True)
        for place in (3, 9, 17):
            a = for_bytes.operate(image, name, place)
            b = for_floats.operate(unit, name, place)
            assert b.dtype == torch.float32 and b.min() >= 0 and b.max() <= 1
            difference = (a.float() / 255 - b).abs()
            # posterize of floats has steps of 1/2^n, of bytes of 256/255/2^n
            assert difference.max() <= 1.5 / 255 or (
                name in ("solarize", "posterize") and (difference > 2.01 / 255).float().mean() < 0.01
            )


@pytest.mark.parametrize("preset", PRESETS)
def test_floats_stay_in_their_range_and_are_filled_with_the_same_grey(preset: str) -> None:
    augment = create_augmentation(Augment(preset=preset), turns=True)  # type: ignore[arg-type]
    assert augment is not None
    image = picture()
    for position in range(25):
        found = []
        for given in (image, tv_tensors.Image(image.float() / 255)):
            with seeded(0, 0, position):
                found.append(augment({"image": given})["image"])
        as_bytes, as_floats = found
        assert as_bytes.dtype == torch.uint8 and as_floats.dtype == torch.float32
        assert as_floats.min() >= 0 and as_floats.max() <= 1
        # the same change of both: what rounds at a threshold or a level is a few pixels or levels
        assert (as_bytes.float() / 255 - as_floats).abs().mean() < 3 / 255, position


def test_what_moves_into_floats_is_grey() -> None:
    """Of five channels no colour is changed: white stays white, and what is neither lies at the edge between."""
    augment = create_augmentation(Augment(preset="medium"), channels=5)
    assert augment
    white = tv_tensors.Image(torch.ones(5, 64, 64))
    for position in range(10):
        with seeded(0, 0, position):
            moved = augment({"image": white})["image"]
        grey = (moved - 114 / 255).abs() < 1e-6
        assert 0.005 < grey.float().mean() < 0.6
        assert ((moved == 1) | grey).float().mean() > 0.9


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("preset", PRESETS)
def test_any_number_of_channels(preset: str, channels: int, dtype: torch.dtype) -> None:
    augment = create_augmentation(Augment(preset=preset), channels=channels)  # type: ignore[arg-type]
    assert augment is not None
    image = picture(channels)
    given = image if dtype == torch.uint8 else tv_tensors.Image(image.float() / 255)
    for position in range(40):
        with seeded(1, 0, position):
            moved = augment({"image": given, "mask": tv_tensors.Mask(image[0] % 2)})
        assert moved["image"].shape == given.shape and moved["image"].dtype == dtype


def test_seeded_is_a_pure_function_and_leaves_no_trace() -> None:
    before = torch.get_rng_state()
    with seeded(3, 1, 4):
        first = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)
    for numbers in ((3, 1, 4), (4, 1, 4), (3, 2, 4), (3, 1, 5)):
        with seeded(*numbers):
            assert torch.equal(torch.rand(4), first) == (numbers == (3, 1, 4))


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(LoupeError, match=r"'storng' \(did you mean 'strong'"):
        create_augmentation(Augment(preset="storng"))  # type: ignore[arg-type]


def test_the_users_own_transforms_come_after_the_preset(tmp_path: Path) -> None:
    root = str(write_task("classification", tmp_path / "data"))
    both = [
        {"class_path": f"torchvision.transforms.v2.{name}", "init_args": {"p": 1.0}}
        for name in ("RandomGrayscale", "RandomInvert")
    ]
    augment = Augment(preset="light", transforms=both)
    plain = ClassificationDataModule(
        root, image_size=SIZE, augment=Augment(preset="light"), loader=Loader(num_workers=0)
    )
    data = ClassificationDataModule(root, image_size=SIZE, augment=augment, loader=plain.loader)
    for each in (data, plain):
        each.setup("fit")
    for batch, before in zip(data.train_dataloader(), plain.train_dataloader(), strict=True):
        assert torch.equal(batch["image"], 255 - F.rgb_to_grayscale(before["image"], num_output_channels=3))
    for batch in data.val_dataloader():
        assert not torch.equal(batch["image"][:, 0], batch["image"][:, 1]), "validation is left alone"


def test_transforms_from_the_command_line_are_kept_in_the_config(loupe: Loupe, tmp_path: Path) -> None:
    root = write_task("classification", tmp_path / "data")
    given = "[{class_path: torchvision.transforms.v2.RandomGrayscale, init_args: {p: 1.0}}]"
    outcome = loupe(
        "fit",
        *CLASSIFICATION.words,
        f"--data.root={root}",
        f"--data.augment.transforms={given}",
        "--run.name=own",
    )
    assert outcome.code == 0 and "augment light + RandomGrayscale" in outcome.out, outcome.err
    first = tmp_path / "runs" / "own" / "version_0"
    saved = yaml.safe_load((first / "config.yaml").read_text())["data"]["init_args"]["augment"]
    assert saved["transforms"] == [
        {"class_path": "torchvision.transforms.v2.RandomGrayscale", "init_args": {"p": 1.0}}
    ]
    assert loupe("fit", f"--config={first / 'config.yaml'}").code == 0

    def weights(run: str) -> dict[str, Tensor]:
        path = tmp_path / "runs" / run / "checkpoints" / "last.ckpt"
        return torch.load(path, map_location="cpu", weights_only=True)["state_dict"]

    ours = weights("own/version_0")
    assert all(torch.equal(value, weights("own/version_1")[name]) for name, value in ours.items())
    outcome = loupe("fit", *CLASSIFICATION.words, f"--data.root={root}", "--run.name=without")
    assert outcome.code == 0, outcome.err
    assert any(not torch.equal(value, weights("without/version_0")[name]) for name, value in ours.items())
