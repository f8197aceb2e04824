"""Draws the figures of docs/losses.md: what each loss costs and how hard it pulls, by the probability of the truth.

    pip install -e ".[dev,bench]"
    python docs/draw_losses.py docs

Every curve is computed by the losses themselves, gradients by autograd.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from losses import Loss, create_box_loss, create_loss

PROBABILITY = torch.linspace(0.002, 0.998, 250, dtype=torch.float64)
LOGIT = torch.logit(PROBABILITY)
INK, PAPER, GRID = "#24292f", "#ffffff", "#d8dee4"
COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989")


def panels(titles: list[str], labels: list[tuple[str, str]]) -> tuple[Figure, list[Axes]]:
    """A row of empty charts."""
    figure = Figure(figsize=(9, 3.6), layout="constrained", facecolor=PAPER)
    axes = list(figure.subplots(1, len(titles)))
    for axis, title, (x, y) in zip(axes, titles, labels, strict=True):
        axis.set_title(title, fontsize=10, color=INK, loc="left")
        axis.set_xlabel(x, fontsize=9, color=INK)
        axis.set_ylabel(y, fontsize=9, color=INK)
        axis.grid(color=GRID, linewidth=0.6)
        axis.tick_params(labelsize=8, colors=INK)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def of_one_position(loss: Loss) -> tuple[Tensor, Tensor]:
    """Cost of a position of class 1 out of two, and the size of the derivative by its logit, for each probability."""
    logits = torch.stack([torch.zeros_like(LOGIT), LOGIT], 1).requires_grad_()
    costs = torch.stack([loss(x[None], torch.tensor([1])) for x in logits])
    (slopes,) = torch.autograd.grad(costs.sum(), logits)
    return costs.detach(), slopes[:, 1].abs()


def of_a_region(loss: Loss, share: float) -> tuple[Tensor, Tensor]:
    """Cost of a picture whose positions all have that probability for their class, 1 on a share of it; the pull on
    that region: the sum of the derivatives by its logits."""
    target = (torch.arange(1000) < 1000 * share).long()[None]
    costs, pulls = [], []
    for logit in LOGIT:
        x = torch.where(target == 1, logit, -logit).requires_grad_()
        cost = loss(torch.stack([torch.zeros_like(x), x], 1), target)
        (slope,) = torch.autograd.grad(cost, x)
        costs.append(cost.detach())
        pulls.append(slope[target == 1].sum().abs())
    return torch.stack(costs), torch.stack(pulls)


Curves = dict[str, tuple[Tensor, Tensor]]


def draw(axes: list[Axes], x: Tensor, curves: Curves) -> None:
    """Cost on the left, pull on the right."""
    for (name, both), colour in zip(curves.items(), COLOURS, strict=True):
        for axis, y in zip(axes, both, strict=True):
            style = "--" if name == "ciou" else "-"  # on equal squares it is diou
            axis.plot(x, y, style, color=colour, label=name, linewidth=1.6)


def by_probability(
    titles: list[str],
    what: str,
    losses: dict[str, Loss],
    measure: Callable[[Loss], tuple[Tensor, Tensor]],
    top: float,
) -> Figure:
    """Cost and pull of each loss against `what`."""
    figure, axes = panels(titles, [(what, "loss"), (what, "|d loss / d logit|")])
    draw(axes, PROBABILITY, {name: measure(loss) for name, loss in losses.items()})
    axes[0].set_ylim(0, top)
    axes[0].legend(fontsize=8, frameon=False, labelcolor=INK)
    return figure


def positions() -> Figure:
    """Cross entropy, label smoothing and focal."""
    losses = {
        "categorical_crossentropy": create_loss("categorical_crossentropy"),
        "label_smoothing, 0.1": create_loss("label_smoothing"),
        "focal, gamma 0.5": create_loss("focal", alpha=None, gamma=0.5),
        "focal, gamma 2": create_loss("focal", alpha=None),
        "focal, gamma 5": create_loss("focal", alpha=None, gamma=5.0),
    }
    titles = ["Cost of a position", "Pull on its logit"]
    return by_probability(titles, "probability of the true class", losses, of_one_position, 5)


def regions() -> Figure:
    """Dice, iou and tversky on a region of 5 % of the picture, with cross entropy for comparison."""
    losses = {
        "categorical_crossentropy": create_loss("categorical_crossentropy"),
        "dice": create_loss("dice"),
        "iou": create_loss("iou"),
        "tversky, 0.3 and 0.7": create_loss("tversky"),
        "tversky, gamma 0.75": create_loss("tversky", gamma=0.75),
    }
    titles = ["Cost of the picture", "Pull on the logits of the small region, 5 % of the picture"]
    return by_probability(
        titles, "probability of the true class, everywhere", losses, partial(of_a_region, share=0.05), 2
    )


def boxes() -> Figure:
    """Each box loss while a box of side 0.2 moves past another."""
    what = "distance of two boxes of side 0.2"
    figure, axes = panels(
        ["Cost of a box", "Pull on its place"], [(what, "loss"), (what, "|d loss / d distance|")]
    )
    distance = torch.linspace(0, 0.8, 321, dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros_like(distance)
    pred = torch.stack([distance, zeros, distance + 0.2, zeros + 0.2], 1)
    truth = torch.tensor([[0.0, 0.0, 0.2, 0.2]], dtype=torch.float64)
    curves: Curves = {}
    for name in ("iou", "giou", "diou", "ciou", "smooth_l1"):
        loss = create_box_loss(name)
        values = torch.stack([loss(box[None], truth) for box in pred])
        (slope,) = torch.autograd.grad(values.sum(), distance, retain_graph=True)
        curves[name] = values.detach(), slope.abs()
    draw(axes, distance.detach(), curves)
    axes[1].legend(fontsize=8, frameon=False, labelcolor=INK)
    return figure


if __name__ == "__main__":
    mpl.rcParams.update({"svg.hashsalt": "loupe", "svg.fonttype": "none", "font.family": "sans-serif"})
    for name, figure in (("positions", positions()), ("regions", regions()), ("boxes", boxes())):
        figure.savefig(Path(sys.argv[1]) / f"losses_{name}.svg", metadata={"Date": None})
