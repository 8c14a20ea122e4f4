"""A LightningModule that trains BYOL, with ConNR: the lines marked # ConNR are all that is added.

    python examples/lightning_byol.py

Labels are used for the score only.
"""

import argparse
import copy

import lightning
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from connr.clustering.kmeans import kmeans
from connr.integrations.embeddings import extract
from connr.integrations.lightning import ConNRCallback  # ConNR
from connr.integrations.two_stages import TwoStageLoss  # ConNR
from connr.metrics import accuracy


class BYOL(lightning.LightningModule):
    def __init__(self, criterion):
        super().__init__()
        self.online = nn.Sequential(nn.Flatten(), mlp(64, 256, 128), nn.BatchNorm1d(128), nn.ReLU(), mlp(128, 256, 64))
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.predictor = mlp(64, 256, 64)
        self.criterion = criterion

    def training_step(self, batch):
        x, indices = batch
        x0, x1 = view(x), view(x)
        p0, p1 = self.predictor(self.online(x0)), self.predictor(self.online(x1))
        z0, z1 = self.target(x0), self.target(x1)
        loss = (self.criterion(p0, z1, indices) + self.criterion(p1, z0, indices)) / 2
        self.log("loss", loss, prog_bar=True)
        return loss

    def on_train_batch_end(self, *_):
        with torch.no_grad():
            torch._foreach_lerp_(list(self.target.parameters()), list(self.online.parameters()), 0.02)

    def target_features(self, images):  # ConNR
        return self.target(images)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)


def mlp(width, hidden, out):
    return nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out))


def view(images):
    """Brightness changed, and a little noise."""
    return images * (0.6 + 0.8 * torch.rand(len(images), 1, 1)) + 0.1 * torch.randn_like(images)


def parser():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--epochs", type=int, default=30)
    options.add_argument("--start", type=int, default=20, help="t0, the first epoch of ConNR, from 0")
    options.add_argument("--seed", type=int, default=0)
    return options


def main():
    args = parser().parse_args()
    lightning.seed_everything(args.seed, verbose=False)
    digits = load_digits()
    dataset = TensorDataset(torch.tensor(digits.images, dtype=torch.float32) / 16, torch.arange(len(digits.images)))
    plain = DataLoader(dataset, batch_size=512)  # ConNR

    criterion = TwoStageLoss(n_clusters=10, start=args.start, end=args.epochs)  # ConNR: instead of BYOL's loss
    module = BYOL(criterion)
    trainer = lightning.Trainer(
        max_epochs=args.epochs,
        callbacks=[ConNRCallback(criterion, plain)],  # ConNR
        accelerator="cpu",
        log_every_n_steps=5,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(dataset, batch_size=128, shuffle=True, drop_last=True))
    features = F.normalize(extract(module.target_features, plain, module), dim=1)
    print(f"ACC {accuracy(digits.target, kmeans(features, 10).assignments):.3f}")


if __name__ == "__main__":
    main()
