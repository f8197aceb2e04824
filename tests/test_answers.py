"""Test-time augmentation and ensembles: means of probabilities, looks undone exactly, members that fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from callbacks import Answers
from datamodules import ClassificationDataModule, Loader
from errors import LoupeError
from inference import Inference, Tiles, create_response, load_module
from inference.response import Response
from inference.views import Look, create_looks
from lightning_modules import ClassificationModule, CropModule, LoupeModule, SegmentationModule
from lightning_modules.calibration import Calibration
from lightning_modules.links import Link
from tests.tasks import write_task

SOFTMAX, SIGMOID, BOX = Link("softmax"), Link("sigmoid"), Link("box")
ALL_FLIPS = [Look(), Look((3,)), Look((2,)), Look((2, 3))]


class Fixed(nn.Module):
    """The same outputs for every picture."""

    def __init__(self, *outputs: float) -> None:
        super().__init__()
        self.outputs = nn.Parameter(torch.tensor([float(value) for value in outputs]))

    def forward(self, image: Tensor) -> Tensor:
        return self.outputs.expand(len(image), -1)


class Seen(nn.Module):
    """Maps that are what was shown: the first channel is the log-odds of class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []
        self.dtypes: list[torch.dtype] = []
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, image: Tensor) -> Tensor:
        self.sizes.append(tuple(image.shape[2:]))
        self.dtypes.append(image.dtype)
        odds = image[:, :1].float() * self.one
        return torch.cat([torch.zeros_like(odds), odds], 1)


# --- means, by hand ---


def test_the_mean_is_of_probabilities_each_with_its_temperature() -> None:
    odds = math.log(9)  # 0.1 : 0.9; at temperature 2 it is 1 : 3
    response = Response([(Fixed(0, odds), 2.0), (Fixed(0, 0), 1.0), (Fixed(odds, 0), 1.0)], [Look()], SOFTMAX)
    probs = SOFTMAX.probs(response(torch.zeros(2, 3, 4, 4)))
    second = (0.75 + 0.5 + 0.1) / 3
    torch.testing.assert_close(probs, torch.tensor([[1 - second, second]] * 2))


def test_yes_or_no_and_boxes_too() -> None:
    response = Response([(Fixed(math.log(3), 0), 1.0), (Fixed(0, -math.log(3)), 1.0)], [Look()], SIGMOID)
    assert SIGMOID.probs(response(torch.zeros(1, 3, 4, 4)))[0].tolist() == pytest.approx([0.625, 0.375])
    boxes = [
        (Fixed(0.25, 0.5, 0.25, 0.5, math.log(3)), 1.0),
        (Fixed(0.5, 0.25, 0.5, 0.25, 2 * math.log(3)), 2.0),
    ]
    found = Response(boxes, [Look()], BOX)(torch.zeros(1, 3, 4, 4))[0].tolist()
    assert found == pytest.approx([0.375, 0.375, 0.375, 0.375, math.log(3)])


def test_one_member_needs_no_way_through_probabilities() -> None:
    logits = torch.tensor([[500.0, -500.0]])  # probabilities of it are 1 and 0, and nothing else
    response = Response([(Fixed(500, -500), 2.0)], [Look()], SOFTMAX)
    assert torch.equal(response(torch.zeros(1, 3, 4, 4)), logits / 2)


def test_a_class_that_nobody_believes_in_stays_finite() -> None:
    outputs = Response([(Fixed(500, -500), 1.0)], [Look(), Look((3,))], SOFTMAX)(torch.zeros(1, 3, 4, 4))
    assert outputs.isfinite().all()
    assert SOFTMAX.probs(outputs)[0].tolist() == pytest.approx([1.0, 0.0], abs=1e-37)


# --- looks ---


@pytest.mark.parametrize("look", ALL_FLIPS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_flip_is_undone_exactly(look: Look, dtype: torch.dtype) -> None:
    image = torch.arange(2 * 3 * 5 * 7).view(2, 3, 5, 7).to(torch.uint8).to(dtype)
    assert image.dtype == look.do(image).dtype
    assert torch.equal(look.undo(look.do(image).float(), "softmax", (5, 7)), image.float())
    assert look.is_plain or not torch.equal(look.do(image), image)


def test_flips_of_maps_come_back_to_their_places() -> None:
    image = torch.randn(2, 3, 5, 7)
    alone, together = (
        Response([(Seen(), 1.0)], [Look()], SOFTMAX),
        Response([(Seen(), 1.0)], ALL_FLIPS, SOFTMAX),
    )
    # this network answers each pixel by itself, so mirrored answers are the answers
    torch.testing.assert_close(SOFTMAX.probs(together(image)), SOFTMAX.probs(alone(image)))


def test_a_network_that_depends_on_the_place_is_averaged() -> None:
    class Left(Seen):
        def forward(self, image: Tensor) -> Tensor:
            odds = torch.linspace(0, 3, image.shape[3]).expand(len(image), 1, *image.shape[2:]) * self.one
            return torch.cat([torch.zeros_like(odds), odds], 1)

    found = SOFTMAX.probs(Response([(Left(), 1.0)], [Look(), Look((3,))], SOFTMAX)(torch.zeros(1, 3, 2, 4)))
    rising = torch.linspace(0, 3, 4).sigmoid()
    torch.testing.assert_close(found[0, 1], ((rising + rising.flip(0)) / 2).expand(2, 4))


@pytest.mark.parametrize(
    ("flips", "expected"),
    [((), [0.2, 0.3, 0.1, 0.4]), ((3,), [0.8, 0.3, 0.1, 0.4]), ((2, 3), [0.8, 0.7, 0.1, 0.4])],
)
def test_a_mirrored_box(flips: tuple[int, ...], expected: list[float]) -> None:
    found = Look(flips, 1.5).undo(torch.tensor([[0.2, 0.3, 0.1, 0.4, 0.9]]), "box", (8, 8))
    assert found[0].tolist() == pytest.approx([*expected, 0.9])


def test_scales_resize_the_picture_and_the_maps_back() -> None:
    network = Seen()
    response = Response([(network, 1.0)], [Look(), Look(scale=0.5), Look((3,), 1.5)], SOFTMAX)
    image = torch.full((1, 3, 20, 31), 255, dtype=torch.uint8)
    outputs = response(image)
    assert outputs.shape == (1, 2, 20, 31)
    assert network.sizes == [(20, 31), (10, 16), (30, 47)]
    assert network.dtypes == [torch.uint8, torch.float32, torch.float32]  # 0..255, and 0..1
    expected = torch.tensor([255.0, 1.0, 1.0]).sigmoid().mean()
    torch.testing.assert_close(SOFTMAX.probs(outputs)[0, 1], expected.expand(20, 31))


def test_all_scales_in_all_flips_the_plain_one_first() -> None:
    looks = create_looks(Inference(flips="both", scales=[1.0, 0.5]))
    assert [(look.flips, look.scale) for look in looks[:5]] == [
        ((), 1.0), ((3,), 1.0), ((2,), 1.0), ((2, 3), 1.0), ((), 0.5)
    ]  # fmt: skip
    assert len(looks) == 8 and looks[0].is_plain


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"flips": "sideways"}, "inference.flips is 'sideways'; valid: none, horizontal, vertical, both"),
        ({"scales": []}, "inference.scales is empty"),
        ({"scales": [1.0, 0.0]}, "inference.scales has 0"),
        ({"scales": [math.inf]}, "inference.scales has inf"),
        ({"scales": [1.0, 1.0]}, "has a factor twice"),
    ],
)
def test_looks_that_cannot_be(options: dict[str, Any], words: str) -> None:
    with pytest.raises(LoupeError, match=words):
        create_looks(Inference(**options))


def test_looks_can_be_exported() -> None:
    convolution = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1))
    response = Response([(convolution, 1.5)], create_looks(Inference("both", [1.0, 0.75])), SOFTMAX).eval()
    image = torch.rand(2, 3, 24, 32)
    batch = torch.export.Dim("batch")
    program = torch.export.export(response, (image,), dynamic_shapes=({0: batch},))
    more = torch.rand(5, 3, 24, 32)
    torch.testing.assert_close(program.module()(more), response(more), rtol=1e-4, atol=1e-5)


# --- checkpoints ---


def contract(size: int = 32) -> dict[str, Any]:
    return {"image_size": [size, size], "resize": "letterbox", "interpolation": "bilinear", "in_channels": 3}


def built(made: LoupeModule, names: list[str], seed: int, **card: Any) -> Any:
    torch.manual_seed(seed)
    made.adopt({"class_names": names, "input": contract(), **card})
    made.build()
    with torch.no_grad():
        for parameter in made.network.parameters():
            parameter.mul_(1.5)  # answers that differ from each other
    return made.eval()


def classifier(
    seed: int = 0, names: tuple[str, ...] = ("left", "right"), **card: Any
) -> ClassificationModule:
    return built(ClassificationModule("lcnet_035"), list(names), seed, **card)


def stored(made: LoupeModule, path: Path) -> str:
    """A checkpoint of the module as Lightning and Loupe write it."""
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    made.trainer = trainer
    trainer.strategy.connect(made)
    made.recipe = {"regularizer": {"enabled": False}}
    trainer.save_checkpoint(path)
    made.trainer = None
    return str(path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task("classification", tmp_path_factory.mktemp("left-or-right"))


def test_a_module_comes_back_from_its_checkpoint(tmp_path: Path) -> None:
    made = classifier(seed=3)
    again = load_module(stored(made, tmp_path / "a.ckpt"), like=made)
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert not again.training and torch.equal(again(image), made(image))


def test_an_ensemble_of_checkpoints_in_predict(tmp_path: Path, pictures: Path) -> None:
    first, second = classifier(1), classifier(2)
    first.calibration = Calibration(temperature=2.0)
    path = stored(second, tmp_path / "second.ckpt")

    def predict(made: LoupeModule, options: Inference) -> list[float]:
        data = ClassificationDataModule(
            None, image_size=32, predict_path=str(pictures / "test"), loader=Loader(num_workers=0)
        )
        data.adopt({"input": made.input_contract})
        callbacks: list[Callback] = [Answers(options)]
        trainer = Trainer(accelerator="cpu", logger=False, callbacks=callbacks, enable_progress_bar=False)
        batches: Any = trainer.predict(made, datamodule=data)
        return [prediction["row"]["prob_right"] for batch in batches for prediction in batch]

    state = set(first.state_dict())
    alone = [predict(made, Inference()) for made in (first, second)]
    both = predict(first, Inference(ensemble=[path]))
    assert both == pytest.approx([(a + b) / 2 for a, b in zip(*alone, strict=True)], abs=2e-6)
    assert max(abs(a - b) for a, b in zip(*alone, strict=True)) > 1e-3
    assert set(first.state_dict()) == state and first._response == ()  # pyright: ignore[reportPrivateUsage]
    flipped = predict(first, Inference(flips="horizontal"))
    assert flipped != pytest.approx(alone[0], abs=1e-6)


def test_nothing_answers_in_its_place_where_nothing_is_asked() -> None:
    made = classifier()
    assert create_response(made, Inference()) is None
    made.calibration = Calibration(temperature=1.7)
    response = create_response(made, Inference())
    assert isinstance(response, Response)
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    made.answer_with(response)
    torch.testing.assert_close(made(image), made.network(image) / 1.7)
    made.answer_with(None)
    assert torch.equal(made(image), made.network(image))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            lambda: classifier(names=("a", "b")),
            r"second.ckpt has the classes \['a', 'b'\], and the model .*'left'",
        ),
        (lambda: classifier(multi_label=True), "second.ckpt has several labels a picture .* True"),
        (
            lambda: built(CropModule("lcnet_035"), ["object"], 0),
            "the task CropModule, .* ClassificationModule",
        ),
        (lambda: wider(classifier()), r"second.ckpt has the input's image_size \[48, 32\]"),
    ],
)
def test_members_that_do_not_fit(tmp_path: Path, other: Callable[[], LoupeModule], words: str) -> None:
    path = stored(other(), tmp_path / "second.ckpt")
    with pytest.raises(LoupeError, match=words):
        create_response(classifier(), Inference(ensemble=[path]))


def wider(made: LoupeModule) -> LoupeModule:
    made.input_contract["image_size"] = [48, 32]
    return made


def test_a_member_that_is_not_there() -> None:
    with pytest.raises(LoupeError, match=r"no checkpoint gone\.ckpt"):
        create_response(classifier(), Inference(ensemble=["gone.ckpt"]))


@pytest.mark.parametrize(
    "made", [classifier, lambda: built(CropModule("lcnet_035"), ["object"], 0)], ids=["classifier", "cropper"]
)
def test_tiles_are_for_segmenters(made: Callable[[], LoupeModule]) -> None:
    with pytest.raises(LoupeError, match=r"inference\.tiles is for segmenters, and the model is a C"):
        create_response(made(), Inference(tiles=Tiles(enabled=True)))


def test_a_network_of_one_size_says_which_scale_it_cannot_take() -> None:
    vit = built(ClassificationModule("vit_tiny_patch16_224", options={"img_size": 224}), ["a", "b"], 0)
    vit.input_contract = contract(224)
    with pytest.raises(
        LoupeError, match=r"inference.scales has 1.25, and the network cannot take pictures of 280x280"
    ):
        create_response(vit, Inference(scales=[1.0, 1.25]))
    loose = built(ClassificationModule("vit_tiny_patch16_224"), ["a", "b"], 0)
    assert create_response(loose, Inference(scales=[1.0, 1.5])) is not None
    with pytest.raises(LoupeError, match=r"inference.scales has 1.25.* 40x40"):
        create_response(loose, Inference(scales=[1.0, 1.25]))  # no whole patches


def test_segmenters_take_any_scale() -> None:
    made = built(SegmentationModule("unet", options={"base_filters": 4, "depth": 2}), ["a", "b"], 0)
    response = create_response(made, Inference("both", [0.7, 1.3]))
    assert response is not None
    assert response(torch.randint(0, 256, (1, 3, 33, 47), dtype=torch.uint8)).shape == (1, 2, 33, 47)
