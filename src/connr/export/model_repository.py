"""A folder as the Hugging Face Hub has them: config.json, model.safetensors, README.md. Nothing is uploaded.

    from connr.export.model_repository import HubModel
    features, cluster, distance = HubModel.from_pretrained("FOLDER or USER/NAME")(images)

It loads with `ConNR.load` as well.
"""

from typing import Any

import torch

from connr import pretrained
from connr.clustering.assigners import Centroids
from connr.errors import InputError
from connr.export.deployed import Deployed
from connr.networks import features_out
from connr.schema import check_model_config

try:
    from huggingface_hub import PyTorchModelHubMixin
except ImportError as fault:
    raise InputError('the Hub needs huggingface_hub: pip install "connr[hub]".') from fault


class HubModel(Deployed, PyTorchModelHubMixin, library_name="connr"):
    """A fitted model, loaded by `from_pretrained`: uint8 images (n h w c) -> features, cluster, distance.

    Args:
        recipe: as in config.json.
        mean, std: per channel, in [0, 1] units; of rows of features, per column.
        backbone: of its pretrained backbone, as in config.json.

    Raises:
        InputError: the recipe is none.
    """

    def __init__(
        self, recipe: dict[str, Any], mean: list[float], std: list[float], backbone: dict[str, Any] | None = None
    ) -> None:
        config = check_model_config({"recipe": recipe, "mean": mean, "std": std, "backbone": backbone}, "config.json")
        r = config.recipe
        representation, assigner = pretrained.build_inference_network(r, config.backbone_config)
        shape = (r.data.features or 0,) if r.takes_features else (r.data.channels, r.data.size, r.data.size)
        if isinstance(assigner, Centroids):
            assigner = Centroids(torch.zeros(config.clusters, features_out(representation.float(), *shape)))
        super().__init__(representation.float(), assigner, mean, std, r.takes_features)
        self.eval()

    @classmethod
    def _from_pretrained(cls, **arguments: Any) -> "HubModel":
        """Every tensor must be there: the mixin's default would leave out what does not fit."""
        model: HubModel = super()._from_pretrained(**{**arguments, "strict": True})
        return model
