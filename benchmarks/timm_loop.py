"""A plain loop over timm, ImageFolder and Pillow: what a classifier costs and reaches without Loupe.

python benchmarks/timm_loop.py MANIFEST WEIGHTS SEED     trashnet.csv of benchmarks/manifests.py, weights of Lite0

`tf_efficientnet_lite0`, 128 px, batches of 32, six epochs, AdamW 1e-3 with one-cycle, label smoothing 0.1, flips; the
weights of the best validation epoch are tested.
"""

import csv
import sys
import time
from pathlib import Path

import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

SIZE, BATCH, EPOCHS, RATE = 128, 32, 6, 1e-3
NORM = transforms.Normalize((0.5,) * 3, (0.5,) * 3)
RESIZE = transforms.Resize((SIZE, SIZE), interpolation=transforms.InterpolationMode.BICUBIC)
PLAIN = transforms.Compose([RESIZE, transforms.ToTensor(), NORM])
FLIPPED = transforms.Compose([RESIZE, transforms.RandomHorizontalFlip(), transforms.ToTensor(), NORM])


class Pictures(Dataset):
    """What ImageFolder does, for the rows of a manifest."""

    def __init__(self, rows, classes, transform):
        self.rows, self.classes, self.transform = rows, classes, transform

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        with Image.open(row["path"]) as image:
            return self.transform(image.convert("RGB")), self.classes.index(row["label"])


@torch.inference_mode()
def accuracy(model, loader):
    model.eval()
    hits = [(model(image).argmax(1) == label).float() for image, label in loader]
    return torch.cat(hits).mean().item()


def main(manifest: Path, weights: Path, seed: int) -> None:
    torch.manual_seed(seed)
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["label"] for row in rows})
    parts = {part: [row for row in rows if row["split"] == part] for part in ("train", "val", "test")}
    loaders = {
        part: DataLoader(
            Pictures(of_part, classes, FLIPPED if part == "train" else PLAIN), BATCH, shuffle=part == "train"
        )
        for part, of_part in parts.items()
    }
    model = timm.create_model(
        "tf_efficientnet_lite0",
        pretrained=True,
        pretrained_cfg_overlay={"file": str(weights)},
        num_classes=len(classes),
    )
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    steps = EPOCHS * len(loaders["train"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    best, kept = 0.0, {}
    whole = time.perf_counter()
    for epoch in range(EPOCHS):
        model.train()
        began = time.perf_counter()
        for image, label in loaders["train"]:
            optimizer.zero_grad()
            loss(model(image), label).backward()
            optimizer.step()
            schedule.step()
        speed = len(parts["train"]) / (time.perf_counter() - began)
        score = accuracy(model, loaders["val"])
        if score >= best:
            best, kept = score, {name: value.clone() for name, value in model.state_dict().items()}
        print(f"epoch {epoch + 1}  training {speed:.1f} images/s  val accuracy {score:.4f}", flush=True)
    seconds = time.perf_counter() - whole
    model.load_state_dict(kept)
    print(
        f"seed {seed}: {seconds:.0f} s, val {best:.4f}, test accuracy {accuracy(model, loaders['test']):.4f}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
