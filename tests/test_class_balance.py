"""Class weights by name: worked out from the training part, for pictures and for pixels, in every kind of run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train
from datamodules import ClassificationDataModule, SegmentationDataModule
from errors import LoupeError
from losses import class_weights, create_loss, with_class_weights


def test_balanced_is_inverse_to_the_count() -> None:
    weights = class_weights([60, 30, 10], "balanced")
    assert weights == pytest.approx([100 / 180, 100 / 90, 100 / 30])
    assert sum(n * w for n, w in zip([60, 30, 10], weights, strict=True)) == pytest.approx(100)


def test_effective_number_levels_off() -> None:
    few = class_weights([10, 20], "effective_number")
    assert few[0] / few[1] == pytest.approx(2, rel=1e-3)  # as balanced
    many = class_weights([10**6, 2 * 10**6], "effective_number")
    assert many[0] / many[1] == pytest.approx(1, rel=1e-6)
    n, beta = 5000, 0.9999
    pair = class_weights([n, 10**9], "effective_number")
    assert pair[0] / pair[1] == pytest.approx(1 / (1 - beta**n))


def test_what_does_not_occur_weighs_nothing_and_nothing_at_all_is_refused() -> None:
    assert class_weights([4, 0, 4], "balanced") == [1.0, 0.0, 1.0]
    with pytest.raises(LoupeError, match="no class has a sample"):
        class_weights([0, 0], "balanced")
    with pytest.raises(LoupeError, match="valid: balanced, effective_number"):
        class_weights([1, 2], "balance")  # type: ignore[arg-type]


def test_a_loss_alone_cannot_know() -> None:
    with pytest.raises(LoupeError, match=r"losses\.class_weights\(counts, 'balanced'\)"):
        create_loss("focal", class_weight="balanced")


def test_only_where_it_is_asked_for() -> None:
    def refuse() -> list[int]:
        raise AssertionError

    assert with_class_weights({"type": "dice"}, refuse) == {"type": "dice"}
    assert with_class_weights({"type": "dice", "class_weight": [1, 2]}, refuse)["class_weight"] == [1, 2]
    parts = [{"type": "dice"}, {"type": "focal", "class_weight": "balanced"}]
    found = with_class_weights({"type": "weighted_sum", "losses": parts}, lambda: [3, 1])
    assert found["losses"] == [parts[0], {"type": "focal", "class_weight": [2 / 3, 2.0]}]
    with pytest.raises(LoupeError, match="needs classes to count"):
        with_class_weights({"class_weight": "balanced"}, lambda: None)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Nine cats and three dogs to train on, and the other way round to validate on."""
    for part, counts in (("train", {"cat": 9, "dog": 3}), ("val", {"cat": 2, "dog": 4})):
        for label, count in counts.items():
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(folder / f"{i}.png")
    return tmp_path


def test_pictures_of_the_training_part_are_counted(pictures: Path) -> None:
    data = ClassificationDataModule(str(pictures))
    data.setup("fit")
    assert data.class_counts() == [9, 3]


def test_pixels_of_the_training_part_are_counted_without_void(tmp_path: Path) -> None:
    for part, level in (("train", 1), ("val", 2)):
        for kind in ("images", "masks"):
            (tmp_path / part / kind).mkdir(parents=True)
        mask = np.zeros((4, 5), dtype=np.uint8)
        mask[0, :3] = level
        mask[1] = 255
        Image.fromarray(mask).save(tmp_path / part / "masks/a.png")
        Image.new("RGB", (5, 4)).save(tmp_path / part / "images/a.png")
    data = SegmentationDataModule(str(tmp_path))
    data.setup("fit")
    assert data.class_counts() == [12, 3, 0]


def test_a_run_says_them_and_goes_on(
    pictures: Path, tmp_path_factory: pytest.TempPathFactory, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path_factory.mktemp("run"))
    config = Path(__file__).parent.parent / "configs/cls_mobilenetv3.yaml"
    train.main(
        ["fit", f"--config={config}", f"--data.root={pictures}", "--model.weights=null", "--data.image_size=32",
         "--training.epochs=1", "--training.batch_size=6", "--training.loss=label_smoothing",
         "--training.loss.class_weight=balanced", "--data.loader.num_workers=0", "--training.tensorboard=false"]
    )  # fmt: skip
    said = "".join(capfd.readouterr())
    assert "class weights (balanced): cat 0.667, dog 2" in said
    run = next(Path("runs").glob("*/*/config.yaml"))
    assert "class_weight: balanced" in run.read_text()
    train.main(["validate", f"--config={run}", "--ckpt_path=best"])
    train.main(
        ["fit", f"--config={config}", f"--data.root={pictures}", "--training.loss.class_weight=balancd"]
    )
    said = "".join(capfd.readouterr())
    assert "expected a list, balanced, effective_number or null, got 'balancd'" in said
