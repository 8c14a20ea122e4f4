"""ConNR from its pure functions, in a bare loop of torch: what Algorithm 1 takes, and nothing else.

    python examples/own_loop.py

Labels are used for the score only.
"""

import argparse
import copy

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from connr import ConNRLoss
from connr.clustering.boundary import boundary_ratio, keep
from connr.clustering.kmeans import kmeans
from connr.metrics import accuracy
from connr.schedules import linear_fraction


def parser():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--epochs", type=int, default=60)
    options.add_argument("--start", type=int, default=40, help="t0, the first epoch of stage 2, from 0")
    options.add_argument("--batch-size", type=int, default=128)
    options.add_argument("--seed", type=int, default=0)
    return options


def view(images):
    """Brightness changed, a little noise, and moved by a pixel."""
    brightness = 0.6 + 0.8 * torch.rand(len(images), 1)
    rows = torch.roll(images, torch.randint(-1, 2, (1,)).item(), dims=-1).flatten(1)
    return brightness * rows + 0.1 * torch.randn_like(rows)


def mlp(width, hidden, out):
    return nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out))


def main():
    args = parser().parse_args()
    torch.manual_seed(args.seed)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32) / 16

    online = nn.Sequential(mlp(64, 256, 128), nn.BatchNorm1d(128), nn.ReLU(), mlp(128, 256, 64))
    target = copy.deepcopy(online).requires_grad_(False)
    predictor = mlp(64, 256, 64)
    optimizer = torch.optim.SGD([*online.parameters(), *predictor.parameters()], lr=0.1, momentum=0.9, weight_decay=5e-4)
    instance, group = ConNRLoss(k=1), ConNRLoss(k=10, k1=10, k2=2)  # k = 1 is the loss of plain BYOL, Eq. 1

    for epoch in range(args.epochs):
        if epoch >= args.start:
            clusters = kmeans(features(target, images), 10)
            fraction = linear_fraction(epoch, args.start, args.epochs)  # Eq. 12
        for indices in torch.randperm(len(images)).split(args.batch_size):
            if len(indices) < args.batch_size:
                continue
            one, two = view(images[indices]), view(images[indices])
            loss = 0.0
            for query_view, key_view in ((one, two), (two, one)):
                queries = predictor(online(query_view))
                with torch.no_grad():
                    keys = F.normalize(target(key_view), dim=1)
                if epoch < args.start:
                    loss += instance(queries, keys) / 2
                else:
                    ratios = boundary_ratio(keys, clusters.centroids, clusters.assignments[indices])  # Eqs. 9-11
                    loss += group(queries, keys, keep(ratios, fraction)) / 2  # Eqs. 13, 14
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), 0.02)

    print(f"ACC {accuracy(digits.target, kmeans(features(target, images), 10).assignments):.3f}")


@torch.no_grad()
def features(target, images):
    target.eval()
    rows = F.normalize(target(images.flatten(1)), dim=1)
    target.train()
    return rows


if __name__ == "__main__":
    main()
