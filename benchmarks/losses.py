"""Our losses against torch, torchvision, SMP and MONAI: time forward and backward, and peak memory.

    pip install -e ".[dev,bench]"
    python benchmarks/losses.py                          # both shapes of docs/losses.md, on the CPU
    python benchmarks/losses.py --device cuda --dtype bfloat16 --shapes 32,19,512,512

Times are medians over rounds in which all candidates take turns, so that a machine that slows down slows all of them;
ratios are of those medians. Memory is the highest resident size of a fresh process a candidate (on CUDA: the peak of
the allocator) above what it held before the call, gradient included, as a multiple of the logits' size. On CUDA the
floor is what a measured copy takes for reading the logits twice and writing them once.
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

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)  # this file has the name of a package

Run = Callable[[Tensor, Tensor], Tensor]
REFERENCE = "torch: categorical_crossentropy"
OURS = ("categorical_crossentropy", "label_smoothing", "focal", "dice", "iou", "tversky", "dice_ce")


def torchs() -> dict[str, Run]:
    """What torch has, and dice as one writes it in an afternoon."""

    def dice(logits: Tensor, target: Tensor) -> Tensor:
        probs = torch.softmax(logits, 1)
        hot = F.one_hot(target, logits.shape[1]).movedim(-1, 1).to(probs.dtype)
        dims = (0, 2, 3)
        return (1 - 2 * (probs * hot).sum(dims) / (probs.sum(dims) + hot.sum(dims) + 1e-5)).mean()

    return {
        "categorical_crossentropy": F.cross_entropy,
        "label_smoothing": lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1),
        "dice": dice,
        "dice_ce": lambda x, y: dice(x, y) + F.cross_entropy(x, y),
    }


def torchvisions() -> dict[str, Run]:
    """Focal loss only: one sigmoid a class, on one-hot targets."""
    from torchvision.ops import sigmoid_focal_loss

    def focal(logits: Tensor, target: Tensor) -> Tensor:
        hot = F.one_hot(target, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
        return sigmoid_focal_loss(logits, hot, reduction="mean")

    return {"focal": focal}


def smps() -> dict[str, Run]:
    """segmentation_models_pytorch."""
    from segmentation_models_pytorch import losses

    dice = losses.DiceLoss("multiclass")
    return {
        "dice": dice,
        "iou": losses.JaccardLoss("multiclass"),
        "tversky": losses.TverskyLoss("multiclass", alpha=0.3, beta=0.7),
        "focal": losses.FocalLoss("multiclass", alpha=0.25),
        "dice_ce": lambda x, y: dice(x, y) + F.cross_entropy(x, y),
    }


def monais() -> dict[str, Run]:
    """MONAI, whose targets are (N, 1, *)."""
    from monai import losses

    def with_channel(loss: Run) -> Run:
        return lambda x, y: loss(x, y.unsqueeze(1))

    same: dict[str, Any] = {"to_onehot_y": True, "softmax": True, "batch": True}
    return {
        "dice": with_channel(losses.DiceLoss(**same)),
        "iou": with_channel(losses.DiceLoss(**same, jaccard=True)),
        "tversky": with_channel(losses.TverskyLoss(**same, alpha=0.3, beta=0.7)),
        "focal": with_channel(losses.FocalLoss(to_onehot_y=True, use_softmax=True, alpha=0.25)),
        "dice_ce": with_channel(losses.DiceCELoss(**same)),
    }


def loupes() -> dict[str, Run]:
    """Ours as they come."""
    from losses import create_loss

    return {name: create_loss(name) for name in OURS}


def loupes_in_torch() -> dict[str, Run]:
    """Ours as they are where no C compiler was found at installation."""
    from losses import create_loss, native

    def without(loss: Run) -> Run:
        def run(logits: Tensor, target: Tensor) -> Tensor:
            with native.switched_off():
                return loss(logits, target)

        return run

    return {name: without(create_loss(name)) for name in OURS}


MAKERS: dict[str, Callable[[], dict[str, Run]]] = {
    "loupe": loupes,
    "loupe in torch": loupes_in_torch,
    "torch": torchs,
    "torchvision": torchvisions,
    "smp": smps,
    "monai": monais,
}


def example(shape: str, device: str, dtype: str) -> tuple[Tensor, Tensor]:
    """Logits and classes at random."""
    n, classes, *size = map(int, shape.split(","))
    g = torch.Generator().manual_seed(0)
    logits = torch.randn((n, classes, *size), generator=g).to(device, getattr(torch, dtype)).requires_grad_()
    return logits, torch.randint(0, classes, (n, *size), generator=g).to(device)


def step(loss: Run, logits: Tensor, target: Tensor) -> None:
    logits.grad = None
    loss(logits, target).backward()
    if logits.is_cuda:
        torch.cuda.synchronize()


def medians(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Seconds of each, taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if i:  # the first round warms up
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def resident(key: str) -> int:
    """VmRSS or VmHWM of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def peak_memory(loss: Run, logits: Tensor, target: Tensor) -> float:
    """Peak of one step above what was held before, in sizes of the logits."""
    size = logits.numel() * logits.element_size()
    step(
        loss, logits.detach()[:, :, :8, :8].clone().requires_grad_(), target[:, :8, :8].clone()
    )  # loads code
    if logits.is_cuda:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step(loss, logits, target)
        return (torch.cuda.max_memory_allocated() - before) / size
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
    before = resident("VmRSS")
    step(loss, logits, target)
    return (resident("VmHWM") - before) / size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", default=["4,19,512,512", "8,2,512,512"], help="N,C,H,W")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--libraries", nargs="+", default=list(MAKERS), choices=list(MAKERS))
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        library, name = args.memory_of
        given = example(args.shapes[0], args.device, args.dtype)
        print(json.dumps(peak_memory(MAKERS[library]()[name], *given)))
        return
    found = {
        f"{lib}: {name}": loss for lib in {"torch", *args.libraries} for name, loss in MAKERS[lib]().items()
    }
    where = (
        torch.cuda.get_device_name() if args.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    )
    print(f"torch {torch.__version__}, {where}, {args.dtype}, {time.strftime('%Y-%m-%d')}")
    for shape in args.shapes:
        table(shape, found, args)


def table(shape: str, found: dict[str, Run], args: argparse.Namespace) -> None:
    """Measures and prints one shape."""
    logits, target = example(shape, args.device, args.dtype)
    runs: dict[str, Callable[[], None]] = {
        name: (lambda loss=loss: step(loss, logits, target)) for name, loss in found.items()
    }
    source, copy = logits.detach(), torch.empty_like(logits)

    def copied() -> None:
        copy.copy_(source)
        if copy.is_cuda:
            torch.cuda.synchronize()

    took = medians({**runs, "copy": copied}, args.rounds)
    floor = f"{'x floor':>9}" if args.device == "cuda" else ""
    print(f"\n({shape})\n{'':44}{'ms':>8}{'x ce':>8}{'x ours':>8}{'memory':>8}{floor}")
    for name in sorted(
        found, key=lambda name: (name.split(": ")[1], list(MAKERS).index(name.split(": ")[0]))
    ):
        library, loss = name.split(": ")
        command = [sys.executable, __file__, "--memory-of", library, loss, "--shapes", shape]
        command += ["--device", args.device, "--dtype", args.dtype]
        memory = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        ours = took.get(f"loupe: {loss}", float("nan"))
        ratios = f"{took[name] / took[REFERENCE]:8.2f}{took[name] / ours:8.2f}{memory:8.2f}"
        print(
            f"{name:44}{took[name] * 1e3:8.1f}"
            + ratios
            + (f"{took[name] / (1.5 * took['copy']):9.2f}" if floor else ""),
            flush=True,
        )


if __name__ == "__main__":
    main()
