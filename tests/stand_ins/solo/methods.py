"""The names of `solo.methods` on its main branch: cfg in, (indices, views, labels) per batch, outputs as lists over views."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import nn


def _mlp(width, hidden, out):
    return nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out))


class BaseMomentumMethod(LightningModule):
    """Backbone, its momentum copy, and a classifier on detached features."""

    def __init__(self, cfg):
        super().__init__()
        self.cfg, self.features_dim = cfg, 64
        self.backbone = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.LazyLinear(128), nn.ReLU(), nn.Linear(128, 64))
        self.backbone(torch.zeros(1, 3, 32, 32))  # so that the lazy layer has its width
        self.momentum_backbone = deepcopy(self.backbone).requires_grad_(False)
        self.classifier = nn.Linear(64, cfg.data.num_classes)

    def configure_optimizers(self):
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.SGD(trained, lr=self.cfg.optimizer.lr, weight_decay=self.cfg.optimizer.weight_decay)

    def forward(self, images):
        feats = self.backbone(images)
        return {"logits": self.classifier(feats.detach()), "feats": feats}

    @torch.no_grad()
    def momentum_forward(self, images):
        return {"feats": self.momentum_backbone(images)}

    @property
    def momentum_pairs(self):
        return [(self.backbone, self.momentum_backbone)]

    def training_step(self, batch, _):
        _, views, labels = batch
        outs, momentum_outs = [self(x) for x in views], [self.momentum_forward(x) for x in views]
        losses = [F.cross_entropy(out["logits"], labels, ignore_index=-1) for out in outs]
        outputs = {key: [out[key] for out in outs] for key in outs[0]} | {"loss": sum(losses) / len(losses)}
        return outputs | {f"momentum_{key}": [out[key] for out in momentum_outs] for key in momentum_outs[0]}

    def on_train_batch_end(self, *_):
        with torch.no_grad():
            for online, momentum in self.momentum_pairs:
                torch._foreach_lerp_(list(momentum.parameters()), list(online.parameters()), 0.02)


class BYOL(BaseMomentumMethod):
    """Projector, its momentum copy, predictor; p, z and momentum_z among the outputs."""

    def __init__(self, cfg):
        super().__init__(cfg)
        widths = cfg.method_kwargs
        self.projector = _mlp(self.features_dim, widths.proj_hidden_dim, widths.proj_output_dim)
        self.momentum_projector = deepcopy(self.projector).requires_grad_(False)
        self.predictor = _mlp(widths.proj_output_dim, widths.pred_hidden_dim, widths.proj_output_dim)

    @property
    def momentum_pairs(self):
        return [*super().momentum_pairs, (self.projector, self.momentum_projector)]

    def forward(self, images):
        out = super().forward(images)
        z = self.projector(out["feats"])
        return out | {"z": z, "p": self.predictor(z)}

    @torch.no_grad()
    def momentum_forward(self, images):
        out = super().momentum_forward(images)
        return out | {"z": self.momentum_projector(out["feats"])}

    def training_step(self, batch, batch_idx):
        outputs = super().training_step(batch, batch_idx)
        (p0, p1), (z0, z1) = outputs["p"], outputs["momentum_z"]
        loss = 4 - 2 * F.cosine_similarity(p0, z1).mean() - 2 * F.cosine_similarity(p1, z0).mean()
        return loss + outputs["loss"]


METHODS = {"byol": BYOL}
