"""Looking at every picture: each pixel decoded, and what is needed to recognise it again."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from tqdm import tqdm

from datamodules import UnreadableError, usable_cores
from errors import LoupeError

__all__ = ["SIDE", "PictureFacts", "look_at"]

SIDE = 32  # of the grey thumbnail that pictures are compared by
_LOW = 8  # frequencies a side of the fingerprint
#: The lowest waves of the cosine transform (DCT-II), one a row; the first one, the mean, is not used by itself.
_WAVES = np.cos(np.pi * np.arange(_LOW)[:, None] * (np.arange(SIDE) + 0.5) / SIDE)
_WAVES[0] /= np.sqrt(2)


@dataclass(frozen=True)
class PictureFacts:
    """What was seen, one row a picture; rows of unreadable ones hold zeros.

    Args:
        errors: what is wrong with a file; empty for a good one.
        unreadable: whether it is that a file cannot be read, which a setting may skip.
        size_hw: (N, 2) int32 pixels, upright.
        digests: the same 16 bytes for pictures that are equal in every pixel.
        prints: (N,) uint64, a perceptual hash: few bits differ between versions of one picture.
        thumbs: (N, 32, 32) uint8, grey.
    """

    errors: list[str]
    unreadable: np.ndarray
    size_hw: np.ndarray
    digests: list[bytes]
    prints: np.ndarray
    thumbs: np.ndarray


def look_at(paths: Sequence[str], decode: Callable[[str], Tensor], *, progress: bool) -> PictureFacts:
    """Decodes each picture with `decode`, to (C, H, W), on all cores; with `progress` a bar on stderr."""
    count = len(paths)
    facts = PictureFacts(
        errors=[""] * count,
        unreadable=np.zeros(count, dtype=bool),
        size_hw=np.zeros((count, 2), dtype=np.int32),
        digests=[b""] * count,
        prints=np.zeros(count, dtype=np.uint64),
        thumbs=np.zeros((count, SIDE, SIDE), dtype=np.uint8),
    )

    def look(row: int) -> None:
        try:
            picture = decode(paths[row])
        except LoupeError as error:
            facts.errors[row] = str(error)
            facts.unreadable[row] = isinstance(error, UnreadableError)
            return
        facts.size_hw[row] = picture.shape[-2:]
        digest = hashlib.blake2b(repr(tuple(picture.shape)).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(picture.numpy()).data)
        facts.digests[row] = digest.digest()
        facts.thumbs[row] = _thumbnail(picture)
        facts.prints[row] = _fingerprint(facts.thumbs[row])

    with ThreadPoolExecutor(usable_cores()) as pool:
        done = pool.map(look, range(count))
        for _ in tqdm(done, total=count, desc="pictures", unit="", disable=not progress, file=sys.stderr):
            pass
    return facts


def _thumbnail(picture: Tensor) -> np.ndarray:
    values = picture if picture.is_floating_point() else picture.to(torch.float32) / 255
    grey = values.mean(dim=0, keepdim=True)
    small = F.resize(grey, [SIDE, SIDE], antialias=True)
    return (small[0] * 255).round().clamp(0, 255).to(torch.uint8).numpy()


def _fingerprint(thumb: np.ndarray) -> np.uint64:
    """Whether each of the 63 lowest frequencies (the mean left out) is above their median, as bits.

    The "pHash" of Zauner 2010, Implementation and Benchmarking of Perceptual Image Hash Functions, section 3.2.
    """
    low = (_WAVES @ thumb @ _WAVES.T).ravel()[1:]
    bits = low > np.median(low)
    return np.uint64(int("".join("1" if bit else "0" for bit in bits), 2))
