"""solo-learn's BYOL with ConNR: two lines make the method `connr_byol` known, and the rest is as for its other methods.

    python examples/solo_byol.py

In a copy of solo-learn's own main_pretrain.py the same two lines go below the imports, and `method: connr_byol` into its
configuration.
Labels reach solo-learn's own probe, which gives the network no gradient, and the score.
"""

import argparse

import lightning
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset

from connr.clustering.kmeans import kmeans
from connr.integrations import solo
from connr.integrations.embeddings import extract
from connr.metrics import accuracy


def parser():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--epochs", type=int, default=30)
    options.add_argument("--start", type=int, default=20, help="t0, the first epoch of ConNR, from 0")
    options.add_argument("--seed", type=int, default=0)
    return options


def config(epochs):
    return OmegaConf.create(
        {
            "method": "connr_byol",
            "max_epochs": epochs,
            "backbone": {"name": "resnet18", "kwargs": {}},
            "data": {"dataset": "cifar10", "num_classes": 10, "num_large_crops": 2, "num_small_crops": 0},
            "optimizer": {"name": "sgd", "batch_size": 128, "lr": 0.1, "weight_decay": 5e-4, "classifier_lr": 0.1},
            "scheduler": {"name": "none"},
            "momentum": {"base_tau": 0.98, "final_tau": 1.0, "classifier": False},
            "method_kwargs": {"proj_hidden_dim": 256, "proj_output_dim": 64, "pred_hidden_dim": 256},
        }
    )


class TwoViews(Dataset):
    """As solo-learn's: (index, [view, view], label)."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        views = [image * (0.6 + 0.8 * torch.rand(1)) + 0.1 * torch.randn_like(image) for _ in range(2)]
        return index, views, self.labels[index]


def main():
    args = parser().parse_args()
    lightning.seed_everything(args.seed, verbose=False)
    digits = load_digits()
    images = F.interpolate(torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16, 32).repeat(1, 3, 1, 1)

    solo.register(n_clusters=10, start=args.start, end=args.epochs)  # ConNR
    from solo.methods import METHODS

    module = METHODS["connr_byol"](config(args.epochs))
    trainer = lightning.Trainer(
        max_epochs=args.epochs,
        accelerator="cpu",
        log_every_n_steps=5,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(TwoViews(images, digits.target), batch_size=128, shuffle=True, drop_last=True))

    def project(x):
        return module.momentum_projector(module.momentum_backbone(x))

    features = F.normalize(extract(project, images.split(512), module), dim=1)
    print(f"ACC {accuracy(digits.target, kmeans(features, 10).assignments):.3f}")


if __name__ == "__main__":
    main()
