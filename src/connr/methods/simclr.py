"""SimCLR (Chen et al. 2020): two views of an image against those of all other images; k-means on the encoder's features.

loss = NT-Xent(z, z'; tau) = 1/(2b) sum_i -ln( e^{s_ii'/tau} / sum_{j != i} e^{s_ij/tau} )
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import nn

from connr.losses import nt_xent
from connr.losses.precision import upcast
from connr.methods.method import Batch, Context, Method, Phase, Setup, StepOutput
from connr.networks.heads import mlp
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import Positive, Width
from connr.registry import METHODS


class SimCLRConfig(MethodConfig):
    """Widths of the projector, and the temperature."""

    name: Literal["simclr"] = "simclr"
    hidden: Width = 512
    out: Width = 128
    temperature: Positive = 0.5


@METHODS.register("simclr")
class SimCLR(Method):
    """An encoder and a projector; the projector serves the loss alone."""

    Config = SimCLRConfig

    def __init__(self, config: SimCLRConfig, setup: Setup) -> None:
        super().__init__()
        self.config = config
        self.encoder = setup.encoder
        self.projector = mlp(setup.width, config.hidden, config.out, batch_norm=False)

    def phases(self) -> Sequence[Phase]:
        return [Phase("contrast")]

    def training_step(self, batch: Batch, context: Context) -> StepOutput:
        with context.autocast():
            embeddings = [self.projector(self.encoder(batch.views[name])) for name in ("one", "other")]
        one, other = (context.gather(upcast(each)) for each in embeddings)
        return StepOutput(nt_xent(one, other, self.config.temperature))

    def features(self) -> nn.Module:
        return self.encoder

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        return {"encoder": [*self.encoder.parameters(), *self.projector.parameters()]}
