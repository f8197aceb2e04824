"""Draws the README's picture: demo test pictures, the truth, and what a trained checkpoint says of them.

python docs/draw_demo.py runs/seg_unet/version_0/checkpoints/best.ckpt docs/demo.jpg
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import inference
from datamodules import ensure_shapes

COUNT, SIDE, GAP, LEFT = 8, 120, 6, 96
TRUTH, PREDICTION = (255, 196, 0), (0, 200, 255)


def contour(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> Image.Image:
    """The picture with a tinted mask and its outline."""
    big = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    region = np.asarray(Image.fromarray((mask > 0).astype(np.uint8) * 255).resize((SIDE, SIDE))) > 127
    core = region.copy()
    for axis in (0, 1):
        for shift in (-2, 2):
            core &= np.roll(region, shift, axis)
    pixels = np.asarray(big).astype(np.float32)
    pixels[region] = 0.65 * pixels[region] + 0.35 * np.array(colour)
    pixels[region & ~core] = colour
    return Image.fromarray(pixels.astype(np.uint8))


def main(checkpoint: str, target: str) -> None:
    """Draw ``COUNT`` test pictures in three rows."""
    predictor = inference.load(checkpoint)
    root = ensure_shapes() / "test"
    pictures = sorted((root / "images").iterdir())[
        :: max(1, len(list((root / "images").iterdir())) // COUNT)
    ][:COUNT]
    sheet = Image.new("RGB", (LEFT + COUNT * (SIDE + GAP), 3 * (SIDE + GAP) + GAP), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    for row, name in enumerate(("picture", "truth", "prediction")):
        draw.text((8, GAP + row * (SIDE + GAP) + SIDE // 2 - 8), name, fill=(40, 40, 40), font=font)
    for column, path in enumerate(pictures):
        image = np.asarray(Image.open(path).convert("RGB"))
        truth = np.asarray(Image.open(root / "masks" / f"{path.stem}.png"))
        predicted = predictor.predict(path)["mask"]
        cells = (
            Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC),
            contour(image, truth, TRUTH),
            contour(image, predicted, PREDICTION),
        )
        for row, cell in enumerate(cells):
            sheet.paste(cell, (LEFT + column * (SIDE + GAP), GAP + row * (SIDE + GAP)))
    sheet.save(target, quality=92)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    main(*sys.argv[1:])
