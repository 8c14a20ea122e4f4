"""A method of one's own, in a file outside the package: SimCLR's loss on a linear projection.

connr --plugin examples/toy_method.py fit digits --recipe digits --set method=toy --out runs/toy
"""

from typing import Literal

from torch import nn

from connr.losses import nt_xent
from connr.methods import Method, MethodConfig, Phase, StepOutput, register


class ToyConfig(MethodConfig):
    name: Literal["toy"] = "toy"
    width: int = 64


@register("toy")
class Toy(Method):
    Config = ToyConfig

    def __init__(self, config, setup):
        super().__init__()
        self.network = nn.Sequential(setup.encoder, nn.Linear(setup.width, config.width))

    def phases(self):
        return [Phase("contrast")]  # two random views, "one" and "other"

    def training_step(self, batch, context):
        one, other = (context.gather(self.network(view)) for view in batch.views.values())
        return StepOutput(nt_xent(one, other, temperature=0.5))

    def features(self):
        return self.network
