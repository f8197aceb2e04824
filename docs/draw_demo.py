"""Draws the README's picture: demo test pictures, and what three trained checkpoints say of them.

python docs/draw_demo.py SEGMENTER.ckpt CROPPER.ckpt CLASSIFIER.ckpt docs/demo.jpg
"""

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import inference
from datamodules import ensure_shapes

COUNT, SIDE, GAP, LEFT = 8, 120, 6, 104
TRUTH, PREDICTION, WRONG, INK = (255, 196, 0), (0, 200, 255), (200, 30, 30), (40, 40, 40)
SCALE = SIDE / 96


def enlarged(image: np.ndarray) -> Image.Image:
    """The picture at the size of a cell."""
    return Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def outlined(image: Image.Image, mask: np.ndarray, colour: tuple[int, int, int], tint: float) -> Image.Image:
    """The picture with the mask's outline, and its inside tinted."""
    region = np.asarray(Image.fromarray((mask > 0).astype(np.uint8) * 255).resize((SIDE, SIDE))) > 127
    core = region.copy()
    for axis in (0, 1):
        for shift in (-1, 1):
            core &= np.roll(region, shift, axis)
    pixels = np.asarray(image).astype(np.float32)
    pixels[region] = (1 - tint) * pixels[region] + tint * np.array(colour)
    pixels[region & ~core] = colour
    return Image.fromarray(pixels.astype(np.uint8))


def boxed(image: Image.Image, truth: list[float] | None, row: dict[str, float]) -> Image.Image:
    """The picture with the true box, the predicted one where the cropper is confident, and the confidence."""
    drawn = image.copy()
    draw = ImageDraw.Draw(drawn)
    if truth is not None:
        draw.rectangle([value * SCALE for value in truth], outline=TRUTH, width=2)
    if row["confidence"] >= 0.5:
        box = [row[key] * SCALE for key in ("x1", "y1", "x2", "y2")]
        draw.rectangle(box, outline=PREDICTION, width=2)
    draw.rectangle((0, SIDE - 18, 42, SIDE), fill=(255, 255, 255))
    draw.text((4, SIDE - 17), f"{row['confidence']:.2f}", fill=INK, font=ImageFont.load_default(size=14))
    return drawn


def main(segmenter: str, cropper: str, classifier: str, target: str) -> None:
    """Draw ``COUNT`` test pictures, the last one without a shape, in four rows."""
    models = [inference.load(checkpoint) for checkpoint in (segmenter, cropper, classifier)]
    root = ensure_shapes()
    rows: dict[str, dict[str, str]] = {}
    for name in ("boxes", "labels"):
        with (root / f"{name}.csv").open(newline="") as stream:
            for row in csv.DictReader(stream):
                rows.setdefault(row["path"], {}).update(row)
    pictures = sorted((root / "test" / "images").iterdir())
    pictures = [
        *pictures[:: len(pictures) // (COUNT - 1)][: COUNT - 1],
        min((root / "test" / "empty").iterdir()),
    ]
    sheet = Image.new("RGB", (LEFT + COUNT * (SIDE + GAP), 3 * (SIDE + GAP) + 52), (255, 255, 255))
    draw, font, small = (
        ImageDraw.Draw(sheet),
        ImageFont.load_default(size=16),
        ImageFont.load_default(size=14),
    )
    for place, name in enumerate(("picture", "segmenter", "cropper")):
        draw.text((8, GAP + place * (SIDE + GAP) + SIDE // 2 - 8), name, fill=INK, font=font)
    draw.text((8, 3 * (SIDE + GAP) + 10), "classifier", fill=INK, font=font)
    draw.text(
        (LEFT, 3 * (SIDE + GAP) + 34), "yellow: truth   blue: prediction", fill=(110, 110, 110), font=small
    )
    for column, path in enumerate(pictures):
        known = rows[path.relative_to(root).as_posix()]
        image = enlarged(np.asarray(Image.open(path).convert("RGB")))
        mask, box, label = (model.predict(path) for model in models)
        truth = [float(known[key]) for key in ("x1", "y1", "x2", "y2")] if known["x1"] else None
        segmented = outlined(image, mask["mask"], PREDICTION, 0.35)
        if truth is not None:
            segmented = outlined(
                segmented, np.asarray(Image.open(root / "test/masks" / f"{path.stem}.png")), TRUTH, 0
            )
        left = LEFT + column * (SIDE + GAP)
        for place, cell in enumerate((image, segmented, boxed(image, truth, box["row"]))):
            sheet.paste(cell, (left, GAP + place * (SIDE + GAP)))
        if truth is not None:
            said = label["row"]["label"]
            colour = INK if said == known["label"] else WRONG
            text = f"{said} {label['row']['confidence']:.2f}"
            draw.text((left + 4, 3 * (SIDE + GAP) + 12), text, fill=colour, font=small)
    sheet.save(target, quality=92)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    main(*sys.argv[1:])
