"""SegmentationDataModule from files to batches, alone and under Lightning."""

import os
import warnings
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, SequentialSampler

from datamodules import Augment, InputReader, Loader, MaskRead, SegmentationDataModule, Split
from errors import LoupeError

few_workers = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*isinstance.treespec, LeafSpec.:FutureWarning",  # Lightning 2.6.6 with torch 2.15, 2026-11
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures of 40x30 pixels; the mask's class 1 is the picture's left part, as wide as the picture's number."""
    root = tmp_path_factory.mktemp("pairs")
    (root / "images").mkdir()
    (root / "masks").mkdir()
    rng = np.random.default_rng(0)
    for index in range(24):
        noise = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        mask = np.zeros((30, 40), np.uint8)
        mask[:, : index + 4] = 255
        Image.fromarray(noise).save(root / "images" / f"{index:02d}.png")
        Image.fromarray(mask).save(root / "masks" / f"{index:02d}.png")
    return root


def module(folder: Path, **changes: Any) -> SegmentationDataModule:
    arguments: dict[str, Any] = {"image_size": 32, "loader": Loader(batch_size=4, num_workers=0)} | changes
    return SegmentationDataModule(str(folder), **arguments)


def attach(data: SegmentationDataModule, **changes: Any) -> SegmentationDataModule:
    """A stand-in for the trainer: what the loaders ask of it, and nothing else."""
    settings = {
        "world_size": 1, "global_rank": 0, "accumulate_grad_batches": 1, "overfit_batches": 0, "num_devices": 1,
        "lightning_module": None, "strategy": SimpleNamespace(root_device=torch.device("cpu")), "predicting": False,
        "current_epoch": 0,
    }  # fmt: skip
    data.trainer = SimpleNamespace(**settings | changes)  # type: ignore[assignment]
    return data


def test_a_batch_is_what_docs_batch_says(folder: Path) -> None:
    data = module(folder)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert {key: (tuple(value.shape), value.dtype) for key, value in batch.items()} == {
        "image": ((4, 3, 32, 32), torch.uint8),
        "mask": ((4, 32, 32), torch.int64),
        "index": ((4,), torch.int64),
        "valid": ((4,), torch.bool),
        "size_hw_px": ((4, 2), torch.int64),
        "window_px": ((4, 4), torch.int64),
        "to_original": ((4, 2, 3), torch.float32),
    }
    assert type(batch["mask"]) is Tensor  # no tv_tensor leaves the dataset
    assert batch["size_hw_px"].tolist() == [[30, 40]] * 4
    # 40x30 -> 32x24, centred: rows 4..27 are the picture, the others void
    assert (batch["mask"][:, :4] == 255).all()
    assert (batch["mask"][:, 28:] == 255).all()
    assert set(batch["mask"][:, 4:28].unique().tolist()) == {0, 1}
    for index, mask in zip(batch["index"].tolist(), batch["mask"], strict=True):
        number = int(Path(data.train_paths[index]).stem)
        assert int((mask[16] == 1).sum()) == pytest.approx((number + 4) * 0.8, abs=1)


def test_attributes_after_setup(folder: Path) -> None:
    data = module(folder, split=Split(val=0.25, test=0.25))
    data.setup("fit")
    before = data.samples
    data.setup("validate")
    data.setup("test")
    assert data.samples is before
    assert (data.class_names, data.num_classes) == (["background", "foreground"], 2)
    assert (data.ignore_index, data.read.in_channels) == (255, 3)
    assert [len(paths) for paths in (data.train_paths, data.val_paths, data.test_paths)] == [12, 6, 6]
    assert data.describe() == [
        f"data: {folder}, 12 train, 6 val, 6 test (val and test drawn with data.split.seed 0)",
        "classes: 2 (background, foreground)",
        "input: 32x32 letterbox, augment none",
    ]
    expected = {"image_size": [32, 32], "resize": "letterbox", "interpolation": "bilinear", "in_channels": 3}
    assert data.input_contract() == expected
    assert dict(data.hparams) == {}  # checkpoints load with weights_only


def test_constructor_reads_nothing(tmp_path: Path) -> None:
    data = SegmentationDataModule(str(tmp_path / "absent"), image_size=0)
    with pytest.raises(LoupeError, match=r"data.image_size is 0"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "no data is named; give --data.root FOLDER or --data.dataset shapes"),
        ({"root": "x", "dataset": "shapes"}, "data.root x and data.dataset shapes are both set"),
        ({"dataset": "shape"}, r"unknown data.dataset 'shape' \(did you mean 'shapes'"),
        ({"root": "/absent/folder"}, "data.root /absent/folder does not exist"),
    ],
)
def test_sources_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LoupeError, match=message):
        SegmentationDataModule(**arguments).setup("fit")


def test_names_and_mapping_reach_the_batch(folder: Path) -> None:
    read = MaskRead(class_names=["sky", "ground"], label_mapping={0: 1, 255: 0}, resize="stretch")
    data = module(folder, read=read)
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    assert data.class_names == ["sky", "ground"]
    assert set(batch["mask"].unique().tolist()) == {0, 1}
    assert (batch["mask"][:, :, -1] == 1).all()


def test_a_missing_test_part_is_said_for_test_only(folder: Path) -> None:
    data = module(folder, split=Split(test=0.0))
    data.setup("fit")
    with pytest.raises(LoupeError, match=r"no test part.*train.py validate"):
        data.setup("test")


# ---- purity


def epoch_of(data: SegmentationDataModule, epoch: int) -> dict[int, dict[str, Tensor]]:
    """Sample index -> its tensors in that epoch's training pass."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    found: dict[int, dict[str, Tensor]] = {}
    for batch in loader:
        for row in batch["valid"].nonzero().flatten().tolist():
            found[int(batch["index"][row])] = {key: value[row] for key, value in batch.items()}
    return found


def same(first: dict[int, dict[str, Tensor]], second: dict[int, dict[str, Tensor]]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[index][key]) for index, row in first.items() for key, value in row.items()
    )


@pytest.fixture
def augmented(folder: Path) -> Callable[..., SegmentationDataModule]:
    def make(workers: int = 0, **trainer: Any) -> SegmentationDataModule:
        data = module(
            folder,
            augment=Augment(preset="strong"),
            loader=Loader(batch_size=6, num_workers=workers),
            split=Split(val=0.2, test=0.0),
        )
        data.setup("fit")
        return attach(data, **trainer)

    return make


def test_augmentation_depends_on_seed_and_epoch(
    augmented: Callable[..., SegmentationDataModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = epoch_of(augmented(), 0)
    torch.manual_seed(99)
    assert same(first, epoch_of(augmented(), 0))
    assert not same(first, epoch_of(augmented(), 1))
    monkeypatch.setitem(os.environ, "PL_GLOBAL_SEED", "7")
    assert not same(first, epoch_of(augmented(), 0))


def test_workers_make_no_difference(augmented: Callable[..., SegmentationDataModule]) -> None:
    alone, helped = augmented(0), augmented(2)
    for epoch in (0, 1):
        assert same(epoch_of(alone, epoch), epoch_of(helped, epoch))


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (3, 1), (1, 3), (3, 2)])
def test_processes_make_no_difference(
    augmented: Callable[..., SegmentationDataModule], world: int, accumulate: int
) -> None:
    alone = epoch_of(augmented(), 3)
    shares = [
        epoch_of(augmented(world_size=world, global_rank=rank, accumulate_grad_batches=accumulate), 3)
        for rank in range(world)
    ]
    assert sum(map(len, shares)) == len(alone) == 19
    assert same(alone, {index: row for share in shares for index, row in share.items()})


def test_reading_leaves_the_global_random_state_alone(
    augmented: Callable[..., SegmentationDataModule],
) -> None:
    data = augmented()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    epoch_of(data, 0)
    assert torch.equal(torch.rand(3), expected)


def test_evaluation_is_never_augmented_and_sees_each_sample_once(
    augmented: Callable[..., SegmentationDataModule],
) -> None:
    ranks = [augmented(world_size=2, global_rank=rank).val_dataloader() for rank in range(2)]
    assert len(ranks[0]) == len(ranks[1])
    seen = [i for loader in ranks for batch in loader for i in batch["index"][batch["valid"]].tolist()]
    assert sorted(seen) == list(range(5))
    data = augmented()
    reader = InputReader(data.input_contract())
    image = next(iter(data.val_dataloader()))["image"][0]
    assert torch.equal(image, reader(data.val_paths[0])["image"])


@pytest.mark.parametrize("preset", ["light", "medium", "strong"])
def test_image_and_mask_move_together(folder: Path, preset: str, tmp_path: Path) -> None:
    """Pictures that show their own mask: dark left, bright right."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for index in range(12):
        mask = np.zeros((64, 64), np.uint8)
        mask[10 : 30 + index, 8:36] = 1
        Image.fromarray(np.repeat(mask[..., None] * 255, 3, 2)).save(tmp_path / "images" / f"{index}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{index}.png")
    data = module(tmp_path, image_size=64, augment=Augment(preset=preset), split=Split(val=0.1, test=0.0))  # type: ignore[arg-type]
    data.setup("fit")
    moved = 0
    for row in epoch_of(data, 0).values():
        bright = row["image"].float().mean(0) > 90
        known = row["mask"] != 255
        assert (bright == (row["mask"] == 1))[known].float().mean() > 0.93
        assert known.float().mean() > 0.3
        moved += int((row["mask"][:, :8] == 1).any() or (row["mask"][:, 36:] == 1).any())
    assert moved > 0


def test_an_unknown_preset_is_refused_by_name(folder: Path) -> None:
    data = module(folder, augment=Augment(preset="mediun"))  # type: ignore[arg-type]
    with pytest.raises(LoupeError, match="'mediun' \\(did you mean 'medium'"):
        data.setup("fit")


# ---- batch sizes


def test_batch_size_is_shared_or_refused(folder: Path) -> None:
    data = attach(module(folder, loader=Loader(batch_size=10, num_workers=0)), world_size=4)
    data.setup("fit")
    with pytest.raises(LoupeError, match=r"training.batch_size 10 .* use 8 or 12"):
        data.train_dataloader()
    assert sum(int(batch["valid"].sum()) for batch in data.val_dataloader()) == 1  # evaluation takes any size


def test_a_model_that_needs_two_samples_gets_them(folder: Path) -> None:
    picky = SimpleNamespace(accepts_single_sample=False)
    data = attach(
        module(folder, split=Split(val=0.3, test=0.0)), lightning_module=picky
    )  # 17 pictures for training
    data.setup("fit")
    assert [len(batch["index"]) for batch in data.train_dataloader()] == [4, 4, 4, 4]
    attach(data)
    assert [len(batch["index"]) for batch in data.train_dataloader()] == [4, 4, 4, 4, 1]
    data.loader = Loader(batch_size=2, num_workers=0)
    attach(data, lightning_module=picky, world_size=2)
    with pytest.raises(LoupeError, match=r"batch norm needs two; use at least 4"):
        data.train_dataloader()


# ---- files that break


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_one_clear_line_also_from_a_worker(
    folder: Path, tmp_path: Path, workers: int
) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for path in sorted((folder / kind).iterdir())[:6]:
            (tmp_path / kind / path.name).write_bytes(path.read_bytes())
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(path.read_bytes()[:400])  # the header is whole, so the first look finds nothing
    data = module(tmp_path, loader=Loader(batch_size=2, num_workers=workers))
    data.setup("fit")
    with pytest.raises(LoupeError) as caught:
        next(iter(data.train_dataloader()))
    assert str(caught.value).startswith("cannot read ")
    assert "Traceback" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mask_that_changes_size_after_the_first_look(folder: Path, tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for path in sorted((folder / kind).iterdir())[:6]:
            (tmp_path / kind / path.name).write_bytes(path.read_bytes())
    data = module(tmp_path)
    data.setup("fit")
    for path in (tmp_path / "masks").iterdir():
        Image.new("L", (7, 5)).save(path)
    with pytest.raises(LoupeError, match=r"is 7x5 and its picture is 40x30"):
        next(iter(data.train_dataloader()))


# ---- under Lightning


class Recorder(pl.LightningModule):
    """Trains one number and writes down what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: dict[str, list[list[int]]] = {"train": [], "val": [], "predict": []}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.seen["train"].append(batch["index"].tolist())
        return self.weight.sum()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.seen["val"].append(batch["index"].tolist())

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        assert "mask" not in batch
        self.seen["predict"].append(batch["index"].tolist())
        return batch["index"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(tmp_path: Path, **settings: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=tmp_path, **settings,
    )  # fmt: skip


@few_workers
def test_lightning_gets_each_epoch_in_its_own_order(folder: Path, tmp_path: Path) -> None:
    data, model = module(folder, split=Split(val=0.2, test=0.0)), Recorder()
    trainer(tmp_path, max_epochs=2).fit(model, datamodule=data)
    passes = model.seen["train"][:5], model.seen["train"][5:]
    assert [[len(batch) for batch in one] for one in passes] == [[4, 4, 4, 4, 3]] * 2
    for one in passes:
        assert sorted(chain(*one)) == list(range(19))
    assert passes[0] != passes[1]
    assert model.seen["val"] == [[0, 1, 2, 3], [4]] * 2


@few_workers
def test_lightning_overfits_on_the_same_batches(folder: Path, tmp_path: Path) -> None:
    data, model = module(folder), Recorder()
    trainer(tmp_path, max_epochs=2, overfit_batches=1).fit(model, datamodule=data)
    assert model.seen["train"] == [[0, 1, 2, 3]] * 2


@few_workers
def test_lightning_predicts_without_training_data(folder: Path, tmp_path: Path) -> None:
    data = SegmentationDataModule(
        "/absent/folder",
        image_size=32,
        loader=Loader(batch_size=10, num_workers=0),
        predict_path=str(folder / "images"),
    )
    model = Recorder()
    trainer(tmp_path).predict(model, datamodule=data)
    assert model.seen["predict"] == [list(range(10)), list(range(10, 20)), list(range(20, 24))]
    assert data.predict_paths == [str(path) for path in sorted((folder / "images").iterdir())]
    assert data.samples == {}
    assert data.describe() == [f"data: 24 pictures of {folder / 'images'}", "input: 32x32 letterbox"]


class Counting(Recorder):
    """Asks for the number of steps where schedules do, so that Lightning makes a loader before the fit."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        assert self.trainer.estimated_stepping_batches > 0
        return super().configure_optimizers()


class SaveWithin(pl.Callback):
    """Writes a checkpoint after three batches of epoch 1."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 5 + 3:
            trainer.save_checkpoint(self.path)


FOUR_EPOCHS: dict[str, Any] = {"max_epochs": 4, "limit_val_batches": 0}


@few_workers
@pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable")  # it cannot know that ours is
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("every", [0, 1, 2])
@pytest.mark.parametrize("kind", [Recorder, Counting])
def test_a_resumed_fit_sees_the_batches_that_were_left_and_then_whole_epochs(
    folder: Path, tmp_path: Path, kind: type[Recorder], every: int, workers: int
) -> None:
    def fresh() -> SegmentationDataModule:
        return module(
            folder, split=Split(val=0.2, test=0.0), loader=Loader(batch_size=4, num_workers=workers)
        )

    settings = {**FOUR_EPOCHS, "reload_dataloaders_every_n_epochs": every}
    file, straight, resumed, again = tmp_path / "within.ckpt", kind(), kind(), kind()
    trainer(tmp_path, callbacks=[SaveWithin(file)], **settings).fit(straight, datamodule=fresh())
    data = fresh()
    trainer(tmp_path, **settings).fit(resumed, datamodule=data, ckpt_path=str(file))
    assert len(straight.seen["train"]) == 20
    assert resumed.seen["train"] == straight.seen["train"][5 + 3 :]
    trainer(tmp_path, **settings).fit(
        again, datamodule=data
    )  # a new fit does not begin where the other went on
    assert again.seen["train"] == straight.seen["train"]


@few_workers
def test_a_checkpoint_within_an_epoch_is_evaluated_with_any_batch_size(folder: Path, tmp_path: Path) -> None:
    file, model = tmp_path / "within.ckpt", Recorder()
    split = Split(val=0.2, test=0.0)
    trainer(tmp_path, callbacks=[SaveWithin(file)], **FOUR_EPOCHS).fit(
        model, datamodule=module(folder, split=split)
    )
    data = module(folder, split=split, loader=Loader(batch_size=5, num_workers=0))
    trainer(tmp_path).validate(model, datamodule=data, ckpt_path=str(file), verbose=False)
    assert model.seen["val"] == [[0, 1, 2, 3, 4]]
    with pytest.raises(LoupeError, match=r"lies within an epoch.*batch_size 4 -> 5"):
        trainer(tmp_path, **FOUR_EPOCHS).fit(model, datamodule=data, ckpt_path=str(file))


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        ({"image_size": (32, 32)}, []),
        (
            {"image_size": 64},
            [
                "data.image_size 64 is not used: the checkpoint's model was trained on 32x32, and predicts on that"
            ],
        ),
        (
            {"image_size": (32, 48), "read": MaskRead(resize="stretch")},
            [
                "data.image_size 32x48 is not used: the checkpoint's model was trained on 32x32, and predicts on that",
                "data.read.resize stretch is not used: the checkpoint's model was trained on letterbox pictures, "
                "and predicts on that",
            ],
        ),
    ],
)
def test_the_checkpoints_way_of_reading_wins_and_says_so(
    folder: Path, arguments: dict[str, Any], messages: list[str]
) -> None:
    data = module(folder, **arguments)
    card = {"input": {"image_size": [32, 32], "resize": "letterbox", "in_channels": 3}}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data.adopt(card)
    assert [str(warning.message) for warning in caught] == messages
    assert {warning.category for warning in caught} <= {UserWarning}
    # A card from before interpolations were kept: then it was always bilinear.
    assert data.input_contract() == {**card["input"], "interpolation": "bilinear"}


def test_lightning_leaves_our_sampler_alone(folder: Path) -> None:
    """It exchanges any sampler that is neither of these under overfit_batches and under DDP."""
    data = module(folder)
    data.setup("fit")
    sampler = data.train_dataloader().sampler
    assert isinstance(sampler, SequentialSampler)
    assert isinstance(sampler, DistributedSampler)


def test_loader_settings_reach_the_loader(folder: Path) -> None:
    data = module(folder, loader=Loader(batch_size=4, num_workers=1, prefetch=3, pin_memory=False))
    data.setup("fit")
    loader: DataLoader[Any] = data.train_dataloader()
    assert (loader.num_workers, loader.prefetch_factor, loader.persistent_workers) == (1, 3, True)
    assert loader.pin_memory is False
    cuda = SimpleNamespace(root_device=torch.device("cuda"))
    data.loader = Loader(num_workers=0)
    assert attach(data, strategy=cuda).train_dataloader().pin_memory is True
    assert attach(data).train_dataloader().pin_memory is False
    data.loader = Loader(num_workers=-1)
    with pytest.raises(LoupeError, match=r"data.loader.num_workers is -1"):
        data.train_dataloader()


# ---- real pictures


@pytest.mark.real_data
def test_dsb2018(real_data: Path, tmp_path: Path) -> None:
    """Forty nuclei pictures of several sizes, RGBA, with 0/255 masks."""
    names = sorted(path.name for path in (real_data / "dsb2018" / "images").iterdir())[::16]
    rows = [f"{real_data}/dsb2018/images/{name},{real_data}/dsb2018/masks/{name}" for name in names]
    (tmp_path / "nuclei.csv").write_text("\n".join(["path,mask", *rows]))
    data = SegmentationDataModule(
        str(tmp_path / "nuclei.csv"),
        image_size=(96, 128),
        read=MaskRead(outside_root=True),
        loader=Loader(batch_size=8, num_workers=0),
    )
    data.setup("fit")
    assert data.class_names == ["background", "foreground"]
    assert sum(map(len, data.samples.values())) == len(names) == 42
    sizes, foreground, known = set(), 0, 0
    for batch in data.train_dataloader():
        assert batch["image"].shape[1:] == (3, 96, 128)
        sizes |= {tuple(size) for size in batch["size_hw_px"].tolist()}
        foreground += int((batch["mask"] == 1).sum())
        known += int((batch["mask"] != 255).sum())
    assert len(sizes) >= 3
    assert 0.05 < foreground / known < 0.35  # nuclei cover about a seventh


@pytest.mark.real_data
def test_dsb2018_folder_is_read_as_it_is(real_data: Path) -> None:
    from datamodules.formats import find_masks

    assert len(find_masks(real_data / "dsb2018").samples) == 664
