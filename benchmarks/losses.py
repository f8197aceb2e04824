"""Our losses against torch, torchvision, SMP and MONAI: time forward and backward, and peak memory.

    pip install -e ".[dev,bench]"
    python benchmarks/losses.py                          # both shapes of docs/losses.md, on the CPU
    python benchmarks/losses.py --device cuda --dtype bfloat16 --shapes 32,19,512,512

Times are medians over rounds in which all candidates take turns, so that a machine that slows down slows all
of them; ratios are of those medians. Memory is the highest resident size of a fresh process a candidate (on CUDA: the
allocator's peak) above what it held before the call, gradient included, as a multiple of the logits' size.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

Run = Callable[[Tensor, Tensor], Tensor]
OURS = ("categorical_crossentropy", "label_smoothing", "focal", "dice", "iou", "tversky", "dice_ce")


def plain_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Dice as one writes it in an afternoon."""
    probs = torch.softmax(logits, 1)
    hot = F.one_hot(target, logits.shape[1]).movedim(-1, 1).to(probs.dtype)
    dims = (0, 2, 3)
    return (1 - 2 * (probs * hot).sum(dims) / (probs.sum(dims) + hot.sum(dims) + 1e-5)).mean()


def with_channel(loss: Run) -> Run:
    """The loss with the target as MONAI takes it, (N, 1, *)."""
    return lambda x, y: loss(x, y.unsqueeze(1))


def candidates() -> dict[str, Run]:
    """Every loss by ``whose: which``."""
    import segmentation_models_pytorch as smp
    from torchvision.ops import sigmoid_focal_loss

    from losses import create_loss

    def vision_focal(logits: Tensor, target: Tensor) -> Tensor:
        hot = F.one_hot(target, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
        return sigmoid_focal_loss(logits, hot, reduction="mean")

    found: dict[str, Run] = {
        "torch: categorical_crossentropy": F.cross_entropy,
        "torch: label_smoothing": lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1),
        "torch: dice": plain_dice,
        "torch: dice_ce": lambda x, y: plain_dice(x, y) + F.cross_entropy(x, y),
        "torchvision: focal": vision_focal,
    }
    found |= {f"loupe: {name}": create_loss(name) for name in OURS}
    theirs = smp.losses
    dice = theirs.DiceLoss("multiclass")
    found |= {
        "smp: dice": dice,
        "smp: iou": theirs.JaccardLoss("multiclass"),
        "smp: tversky": theirs.TverskyLoss("multiclass", alpha=0.3, beta=0.7),
        "smp: focal": theirs.FocalLoss("multiclass", alpha=0.25),
        "smp: dice_ce": lambda x, y: dice(x, y) + F.cross_entropy(x, y),
    }
    try:
        import monai.losses as monai
    except ImportError:
        print("monai is not installed: pip install -e '.[dev,bench]'", file=sys.stderr)
        return found
    same: dict[str, Any] = {"to_onehot_y": True, "softmax": True, "batch": True}
    found |= {
        f"monai: {name}": with_channel(loss)
        for name, loss in {
            "dice": monai.DiceLoss(**same),
            "iou": monai.DiceLoss(**same, jaccard=True),
            "tversky": monai.TverskyLoss(**same, alpha=0.3, beta=0.7),
            "focal": monai.FocalLoss(to_onehot_y=True, use_softmax=True, alpha=0.25),
            "dice_ce": monai.DiceCELoss(**same),
        }.items()
    }
    return found


def example(shape: tuple[int, ...], device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=g).to(device, dtype).requires_grad_()
    target = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=g)
    return logits, target.to(device)


def step(loss: Run, logits: Tensor, target: Tensor) -> None:
    logits.grad = None
    loss(logits, target).backward()
    if logits.is_cuda:
        torch.cuda.synchronize()


def seconds(runs: dict[str, Run], logits: Tensor, target: Tensor, rounds: int) -> dict[str, float]:
    """Median of each, the candidates taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 1):
        for name, loss in runs.items():
            start = time.perf_counter()
            step(loss, logits, target)
            if i:  # the first round warms up
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def resident() -> tuple[int, int]:
    """Highest and present resident size of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmHWM", "VmRSS"))}
    return kib["VmHWM"] * 1024, kib["VmRSS"] * 1024


def peak_memory(loss: Run, logits: Tensor, target: Tensor) -> float:
    """Peak of one step above what was held before, in sizes of the logits."""
    small = (logits[:, :, :8, :8].detach().clone().requires_grad_(), target[:, :8, :8].clone())
    step(loss, *small)  # what is loaded and allocated once
    size = logits.numel() * logits.element_size()
    if logits.is_cuda:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step(loss, logits, target)
        return (torch.cuda.max_memory_allocated() - before) / size
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
    before = resident()[1]
    step(loss, logits, target)
    return (resident()[0] - before) / size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", default=["4,19,512,512", "8,2,512,512"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument(
        "--only", default="", help="candidates whose name holds this, and torch's cross entropy"
    )
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    runs = {k: v for k, v in candidates().items() if args.only in k or k == "torch: categorical_crossentropy"}
    dtype = getattr(torch, args.dtype)
    if args.memory_of:
        logits, target = example(tuple(map(int, args.shapes[0].split(","))), args.device, dtype)
        print(json.dumps(peak_memory(runs[args.memory_of], logits, target)))
        return
    where = (
        torch.cuda.get_device_name() if args.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    )
    print(f"torch {torch.__version__}, {where}, {args.dtype}, {time.strftime('%Y-%m-%d')}")
    for shape in args.shapes:
        logits, target = example(tuple(map(int, shape.split(","))), args.device, dtype)
        took = seconds(runs, logits, target, args.rounds)
        print(f"\n({shape})\n{'':34}{'ms':>8}{'x ce':>8}{'x ours':>8}{'memory':>8}")
        for name in sorted(runs, key=lambda name: (name.split(": ")[1], "loupe" not in name)):
            ours = took.get(f"loupe: {name.split(': ')[1]}", float("nan"))
            command = [sys.executable, __file__, "--memory-of", name, "--shapes", shape]
            command += ["--device", args.device, "--dtype", args.dtype]
            memory = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            ce = took["torch: categorical_crossentropy"]
            print(
                f"{name:34}{took[name] * 1e3:8.1f}{took[name] / ce:8.2f}{took[name] / ours:8.2f}{memory:8.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
