"""`training.compile`: how often the compiler is at work, and that the results are those of the plain network.

Most tests take torch.compile's front end alone, which decides about when to compile anew, and leave the code generator
out (``force_backend``), which takes half a minute for the smallest network; the slow ones have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from callbacks.grad_cam import class_activation
from models import compile_network, create_model, set_backbone_frozen
from tests.conftest import Outcome
from tests.fitting import Fitter, write_pictures
from tests.tasks import CLASSIFICATION, TASKS, write_task

COMPILED = "--training.compile=true"
SLOWER = [name for name in TASKS if name != "segmentation"]
SIZES = [(33, 32), (40, 44), (37, 51), (64, 64), (31, 32), (30, 61), (100, 3), (3, 100), (2, 2), (36, 41)]


@pytest.fixture
def front_end() -> Iterator[Callable[[], int]]:
    """How many graphs were made since the test began; the graphs run as they are."""
    torch.compiler.reset()
    counters.clear()
    with torch.compiler.set_stance("default", force_backend="eager"):
        yield graphs
    torch.compiler.reset()


def graphs() -> int:
    """How many graphs the compiler has been given."""
    return counters["stats"]["unique_graphs"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten for training and five for validation: in batches of four the last ones are of two and of one."""
    return write_pictures(tmp_path_factory.mktemp("compile"), {"train": 10, "val": 5})


def network() -> nn.Module:
    torch.manual_seed(0)
    return create_model("seg_unet", num_classes=2, options={"base_filters": 4, "depth": 2})


def image(count: int, height: int = 32, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(height * width)
    made = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)
    return made.contiguous(memory_format=torch.channels_last)


def test_one_graph_whatever_comes_between(front_end: Callable[[], int]) -> None:
    model = network()
    compile_network(model)
    for _ in range(3):
        for count in (4, 4, 4, 3, 4, 1):
            model(image(count)).mean().backward()
    assert front_end() == 1


def test_a_second_shape_that_stays_is_compiled_and_a_third_is_not(front_end: Callable[[], int]) -> None:
    model = network()
    compile_network(model)
    for count, expected in ((2, 1), (4, 1), (4, 2), (4, 2), (2, 2), (3, 2), (3, 2), (3, 2), (4, 2)):
        model(image(count))
        assert front_end() == expected


def test_pictures_of_changing_size(front_end: Callable[[], int]) -> None:
    """torch.compile alone makes eight graphs of these, warns that it gives up, and does."""
    model, plain = network().eval(), network().eval()
    compile_network(model)
    with torch.inference_mode():
        for height, width in SIZES:
            torch.testing.assert_close(model(image(1, height, width)), plain(image(1, height, width)))
    assert front_end() == 1


def test_training_and_evaluation_have_their_own(front_end: Callable[[], int]) -> None:
    model = network()
    compile_network(model)
    for _ in range(2):
        model.train()
        model(image(4)).mean().backward()
        model.eval()
        with torch.inference_mode():
            model(image(4))
    assert front_end() == 2


def test_frozen_and_thawed_once(front_end: Callable[[], int]) -> None:
    model = network()
    set_backbone_frozen(model, True)
    compile_network(model)
    for frozen, expected in ((True, 1), (False, 2), (False, 2)):
        set_backbone_frozen(model, frozen)
        model(image(4)).mean().backward()
        assert front_end() == expected
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_shapes_asked_for_without_arithmetic_take_no_place(front_end: Callable[[], int]) -> None:
    model = network()
    compile_network(model)
    with torch.device("meta"):
        abroad = network()
    compile_network(abroad)
    assert abroad(torch.empty(1, 3, 8, 8, device="meta")).shape == (1, 2, 8, 8)
    assert front_end() == 0
    model(image(4))
    assert front_end() == 1


def test_a_fit_makes_two_graphs_and_computes_the_same(
    front_end: Callable[[], int], fit: Fitter, pictures: Path
) -> None:
    """One to train and one to evaluate, over last batches, validations, the average of the weights and checkpoints."""
    flags = ("--training.ema=true", "--training.epochs=3", "--trainer.num_sanity_val_steps=2")
    compiled = fit(pictures, COMPILED, *flags)
    assert front_end() == 2
    plain = fit(pictures, *flags)
    np.testing.assert_allclose(compiled.probe.losses, plain.probe.losses, rtol=1e-4)
    assert compiled.column("val/iou") == pytest.approx(plain.column("val/iou"), abs=1e-3)
    assert list(compiled.checkpoint()["state_dict"]) == list(plain.checkpoint()["state_dict"])


@pytest.mark.parametrize("begins", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_a_fit_goes_on_the_other_way(
    front_end: Callable[[], int], fit: Fitter, pictures: Path, begins: str
) -> None:
    other = {"true": "false", "false": "true"}[begins]
    straight = fit(pictures, "--training.epochs=2", "--training.lr_schedule=constant")
    first = fit(
        pictures, "--training.epochs=1", "--training.lr_schedule=constant", f"--training.compile={begins}"
    )
    again = (f"--training.compile={other}", "--ckpt_path=last", "--training.epochs=2")
    second = fit(pictures, *again, config=first.run / "config.yaml")
    assert front_end() == 2
    np.testing.assert_allclose(second.probe.losses, straight.probe.losses[3:], rtol=1e-3)


@pytest.mark.parametrize(
    "task", ["segmentation", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOWER)]
)
def test_every_command_takes_a_compiled_run(
    front_end: Callable[[], int], loupe: Callable[..., Outcome], tmp_path: Path, task: str
) -> None:
    """`pictures` brings the sheets with Grad-CAM, `predict` another mode, and `test` other sizes of batches."""
    data = write_task(task, tmp_path / "data")
    shown = ("--training.tensorboard=true", "--training.pictures=2")
    words = [*TASKS[task].words, f"--data.root={data}"]
    assert loupe("fit", *words, COMPILED, *shown).code == 0
    assert front_end() == 2
    (run,) = (tmp_path / "runs").glob("*/version_*")
    used = (f"--config={run / 'config.yaml'}", "--ckpt_path=best")
    looks = ("--inference.flips=horizontal",) if task != "segmentation" else ("--inference.full_size=true",)
    for command in (("validate",), ("test",), ("test", *looks)):
        outcome = loupe(*command, *used)
        assert outcome.code == 0, outcome.err
    pictures = next(path.parent for path in data.rglob("*.png"))
    assert loupe("predict", *used, f"--data.predict_path={pictures}").code == 0
    assert front_end() <= 6, "one for each command"


def test_heat_of_a_compiled_classifier(front_end: Callable[[], int]) -> None:
    torch.manual_seed(0)
    model = create_model("classifier", num_classes=3, encoder="lcnet_035").eval()
    plain = class_activation(model, image(2), torch.tensor([0, 2]))
    compile_network(model)
    model(image(2))
    made = front_end()
    compiled = class_activation(model, image(2), torch.tensor([0, 2]))
    assert plain is not None and compiled is not None
    np.testing.assert_array_equal(compiled, plain)
    assert front_end() == made, "heat asks the plain network"


def test_pictures_of_many_sizes_are_scored_at_their_own(
    front_end: Callable[[], int], fit: Fitter, loupe: Callable[..., Outcome], tmp_path: Path
) -> None:
    """`inference.full_size` and tiles ask about one picture after another, each as large as it is."""
    from PIL import Image

    data = write_pictures(tmp_path / "data", {"train": 8, "val": 4})
    for number, (height, width) in enumerate(SIZES[:4]):
        for kind in ("images", "masks"):
            path = data / "val" / kind / f"{number:02d}.png"
            with Image.open(path) as picture:
                resized = picture.resize((width, height), Image.Resampling.NEAREST)
            resized.save(path)
    run = fit(data, COMPILED).run
    before = front_end()
    words = ("validate", f"--config={run / 'config.yaml'}", "--ckpt_path=best", "--inference.full_size=true")
    assert loupe(*words).code == 0
    assert front_end() - before <= 1, "the network sees one size, the masks have theirs"
    assert loupe(*words, "--inference.tiles=true").code == 0
    assert front_end() - before <= 3


@pytest.mark.slow
def test_code_is_generated_and_computes_the_same(fit: Fitter, pictures: Path) -> None:
    """The whole compiler, over last batches, validations and the average of the weights."""
    flags = ("--training.ema=true", "--training.epochs=3")
    torch.compiler.reset()
    counters.clear()
    try:
        compiled = fit(pictures, COMPILED, *flags)
        assert graphs() == 2
    finally:
        torch.compiler.reset()
    plain = fit(pictures, *flags)
    np.testing.assert_allclose(compiled.probe.losses, plain.probe.losses, rtol=1e-3)


@pytest.mark.slow
def test_code_of_a_classifier_in_bfloat16(loupe: Callable[..., Outcome], tmp_path: Path) -> None:
    torch.compiler.reset()
    counters.clear()
    data = write_task("classification", tmp_path / "data")
    words: list[Any] = [*CLASSIFICATION.words, f"--data.root={data}", COMPILED]
    outcome = loupe("fit", *words, "--training.mixed_precision={enabled: true, dtype: bfloat16}")
    torch.compiler.reset()
    assert outcome.code == 0, outcome.err
    assert graphs() == 2
