"""BYOL of lightly on the digits of scikit-learn, and ConNR on top: the lines marked # ConNR are all that is added.

    python examples/lightly_byol.py                 # BYOL
    python examples/lightly_byol.py --connr         # BYOL for two thirds of the epochs, then ConNR
    python examples/lightly_byol.py --figure F.png  # both, drawn

Labels are used for the scores only.
"""

import argparse
import copy
import statistics

import torch
import torch.nn.functional as F
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.utils.scheduler import cosine_schedule
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from connr.clustering.kmeans import kmeans
from connr.integrations.embeddings import extract  # ConNR
from connr.integrations.lightly import ConNRCriterion  # ConNR
from connr.metrics import accuracy


class BYOL(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(*block(1, 16), *block(16, 32), nn.MaxPool2d(2), *block(32, 64), nn.AdaptiveAvgPool2d(1))
        self.projection_head = BYOLProjectionHead(64, 256, 64)
        self.prediction_head = BYOLPredictionHead(64, 256, 64)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)

    def forward(self, x):
        return self.prediction_head(self.projection_head(self.backbone(x).flatten(start_dim=1)))

    def forward_momentum(self, x):
        return self.projection_head_momentum(self.backbone_momentum(x).flatten(start_dim=1)).detach()


def block(channels, out):
    return nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()


def view(images):
    """Each image turned, scaled, sheared, shifted and lit a little differently, by numbers of its own."""
    b = len(images)
    angle, scale = (torch.rand(b) - 0.5) * 0.5, 0.8 + 0.4 * torch.rand(b)
    rows = torch.stack([scale * angle.cos(), -scale * angle.sin(), scale * angle.sin(), scale * angle.cos()], dim=1)
    rows = rows + (torch.rand(b, 4) - 0.5) * 0.2
    shift = (torch.rand(b, 2, 1) - 0.5) * 0.25
    grid = F.affine_grid(torch.cat([rows.view(b, 2, 2), shift], dim=2), list(images.shape), align_corners=False)
    return (0.6 + 0.8 * torch.rand(b, 1, 1, 1)) * F.grid_sample(images, grid, align_corners=False)


def train(args, seed, connr):
    """(epoch, clustering accuracy) after every few epochs and the last."""
    torch.manual_seed(seed)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8
    dataset = TensorDataset(images, torch.arange(len(images)))  # an image and its index
    dataloader = DataLoader(dataset, batch_size=128, shuffle=True, drop_last=True)
    plain = DataLoader(dataset, batch_size=512)  # ConNR

    model = BYOL()
    criterion = NegativeCosineSimilarity()
    if connr:
        criterion = ConNRCriterion(n_clusters=10, start=args.start, end=args.epochs)  # ConNR
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4)

    curve = []
    for epoch in range(args.epochs):
        if connr:
            criterion.begin(epoch, lambda: extract(model.forward_momentum, plain, model))  # ConNR
        momentum = cosine_schedule(epoch, args.epochs, 0.98, 1)
        for x, indices in dataloader:
            update_momentum(model.backbone, model.backbone_momentum, m=momentum)
            update_momentum(model.projection_head, model.projection_head_momentum, m=momentum)
            x0, x1 = view(x), view(x)
            p0, z0 = model(x0), model.forward_momentum(x0)
            p1, z1 = model(x1), model.forward_momentum(x1)
            more = (indices,) if connr else ()  # ConNR
            loss = 0.5 * (criterion(p0, z1, *more) + criterion(p1, z0, *more))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        if (epoch + 1) % args.every == 0 or epoch + 1 == args.epochs:
            features = F.normalize(extract(model.forward_momentum, plain, model), dim=1)
            curve.append((epoch + 1, accuracy(digits.target, kmeans(features, 10).assignments)))
    return curve


def parser():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--connr", action="store_true", help="ConNR from epoch --start on")
    options.add_argument("--epochs", type=int, default=60)
    options.add_argument("--start", type=int, default=40, help="t0, the first epoch of ConNR, from 0")
    options.add_argument("--lr", type=float, default=0.3)
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--first-seed", type=int, default=0)
    options.add_argument("--every", type=int, default=5, help="epochs between two scores")
    options.add_argument("--figure", help="a PNG to write, of runs with and without ConNR")
    return options


def main():
    args = parser().parse_args()
    curves = {}
    for connr in (False, True) if args.figure else (args.connr,):
        name = "BYOL, then ConNR" if connr else "BYOL"
        curves[name] = [train(args, seed, connr) for seed in range(args.first_seed, args.first_seed + args.seeds)]
        last = [curve[-1][1] for curve in curves[name]]
        print(f"{name}: ACC {statistics.mean(last):.3f}, seeds {' '.join(f'{acc:.3f}' for acc in last)}")
    if args.figure:
        draw(curves, args)


def draw(curves, args):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for (name, runs), colour in zip(curves.items(), ("#888888", "#1f6feb"), strict=True):
        epochs = [epoch for epoch, _ in runs[0]]
        scores = 100 * torch.tensor([[acc for _, acc in run] for run in runs])
        for run in scores:
            axes.plot(epochs, run, color=colour, alpha=0.3, linewidth=1)
        axes.plot(epochs, scores.mean(dim=0), color=colour, linewidth=2.5, label=f"{name}: {scores[:, -1].mean():.1f} %")
    axes.axvline(args.start, color="#888888", linestyle=":", linewidth=1)
    axes.annotate("ConNR begins ", (args.start, axes.get_ylim()[1]), ha="right", va="top", color="#666666")
    axes.set(xlabel="epoch", ylabel="clustering accuracy in %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right", title=f"mean of {args.seeds} seeds")
    figure.savefig(args.figure, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
