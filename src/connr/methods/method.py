"""The contract of a method: what the engine asks of it, and what it gives. A method is one file on this page.

Config            the numbers of the method; the section `method:` of a recipe
phases()          what training consists of, in order
training_step()   one batch -> a loss
after_step()      moving averages, queues, memories
features()        images -> the features that are clustered, reported and searched
assigner()        features -> clusters
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from connr.clustering.assigners import Assigner, Centroids
from connr.clustering.kmeans import Clusters
from connr.distributed import SINGLE_PROCESS, Communicator
from connr.randomness import stream
from connr.recipe.plugins import MethodConfig

Autocast = Callable[[], AbstractContextManager[object]]


class Setup(NamedTuple):
    """What a method is built from.

    Attributes:
        encoder: images (b c h w), or rows (b d), to features (b width); its weights are initialised.
        width: of the encoder's features.
        n_clusters: K.
        n_images: in the training set, for a memory by image index.
    """

    encoder: nn.Module
    width: int
    n_clusters: int
    n_images: int


@dataclass(frozen=True)
class View:
    """One view of each image of a batch.

    Attributes:
        kind: `plain` is the normalised image; `random` is drawn with the recipe's `augment`, `weak` and `strong` with the
            sections of these names.
        of: `image`, or `neighbour`: a random one of the image's neighbours in the whole set (`Needs.neighbours`).
        changes: settings of that section to replace, such as `{"crop_scale": (0.45, 1.0)}`.
    """

    kind: Literal["plain", "random", "weak", "strong"] = "random"
    of: Literal["image", "neighbour"] = "image"
    changes: Mapping[str, Any] = field(default_factory=dict)


class Optimizer(NamedTuple):
    """The optimiser of a phase, where it is not the recipe's.

    Attributes:
        name: `sgd`, `adam`, `adamw`, `rmsprop` or `lars`.
        lr: peak learning rate > 0.
        momentum: of SGD, LARS and RMSprop.
        weight_decay: >= 0, on all parameters.
        schedule: `cosine` (after the recipe's warm-up, to 0) or `constant`, over this phase alone.
    """

    name: Literal["sgd", "adam", "adamw", "rmsprop", "lars"]
    lr: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["cosine", "constant"] = "constant"


class Needs(NamedTuple):
    """What a phase needs to know of the whole training set.

    Attributes:
        clusters: k-means of the features, before every epoch.
        neighbours: normalised features (n d) to indices (n k), without the image itself; None for no neighbours.
        features: the normalised features (n d) themselves.
        every: epochs between two searches of neighbours and features; 0 for one at the start of the phase.
    """

    clusters: bool = False
    neighbours: Callable[[Tensor], Tensor] | None = None
    features: bool = False
    every: int = 1


@dataclass(frozen=True)
class Phase:
    """A part of training.

    Attributes:
        name: in the log.
        share: of the epochs, relative to the other phases' shares.
        views: by the names under which `training_step` finds them in `batch.views`, drawn in this order.
        needs: of the whole set.
        optimizer: of this phase alone; None goes on with the recipe's, whose state and schedule span such phases.
        lr_factors: of the learning rate, by parameter role; 1 where a role is not named, and 0 freezes it.
        batch_size: where it is not the recipe's.
        find_unused_parameters: whether a step may leave out parameters, as DDP's argument of that name.
    """

    name: str
    share: float = 1.0
    views: Mapping[str, View] = field(default_factory=lambda: {"one": View(), "other": View()})
    needs: Needs = field(default_factory=Needs)
    optimizer: Optimizer | None = None
    lr_factors: Mapping[str, float] = field(default_factory=dict)
    batch_size: int | None = None
    find_unused_parameters: bool = False


class Batch(NamedTuple):
    """This process's rows of a batch.

    Attributes:
        views: (b ...) each, by the names of `Phase.views`.
        indices: (b), of the images in the training set.
        neighbours: (b), of the images whose views are `of="neighbour"`; None where the phase has no such view.
    """

    views: Mapping[str, Tensor]
    indices: Int[Tensor, " b"]
    neighbours: Int[Tensor, " b"] | None = None


@dataclass(frozen=True)
class Context:
    """Where a step is, and what is known of the whole set.

    Attributes:
        phase: its name.
        epoch: of the whole run, from 0.
        epochs: of the whole run.
        phase_epoch: from 0 at the start of the phase.
        batch_size: of all processes together.
        clusters: of k-means, where the phase needs them: centroids (K d) and the assignments of all images (n).
        neighbours: (n k), where the phase needs them.
        features: (n d), normalised, where the phase needs them.
        seed: of the run.
        step: among all steps of the run, from 0; before an epoch that of its first step.
        communicator: between the processes that share the batch.
        autocast: context manager of the networks' precision; losses and neighbours stay outside of it.
    """

    phase: str
    epoch: int
    epochs: int
    phase_epoch: int
    batch_size: int
    clusters: Clusters | None = None
    neighbours: Int[Tensor, "n k"] | None = None
    features: Float[Tensor, "n d"] | None = None
    seed: int = 0
    step: int = 0
    communicator: Communicator = SINGLE_PROCESS
    autocast: Autocast = nullcontext

    def generator(self, purpose: str) -> torch.Generator:
        """A CPU generator for one use in this step; the same on every process, and in a resumed run."""
        return stream(self.seed, purpose, self.step)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows (b ...) of all processes, in order, with gradient: for losses that couple the whole batch."""
        return self.communicator.gather_with_gradient(rows, self.batch_size)

    def collect(self, rows: Tensor) -> Tensor:
        """The rows (b ...) of all processes, in order, without gradient."""
        return self.communicator.gather(rows.detach(), self.batch_size)

    @property
    def own(self) -> slice:
        """Where this process's rows are among the gathered ones."""
        return self.communicator.share(self.batch_size)


class StepOutput(NamedTuple):
    """What a step gives.

    Attributes:
        loss: scalar with gradient. Its mean over the processes is the loss of the whole batch: a loss of gathered rows is
            returned as it is; a sum over this process's rows is divided by the rows of all and multiplied by the processes.
        metrics: scalars for the log, without gradient; their mean over the epoch is written.
    """

    loss: Float[Tensor, ""]
    metrics: Mapping[str, Tensor] = {}


class Method(nn.Module, ABC):
    """A way of clustering images without labels.

    A subclass is registered by `@register("name")`, has a `Config` with that name, and is built as `Subclass(config, setup)`,
    of its config and a `Setup`.
    """

    Config: ClassVar[type[MethodConfig]]

    @classmethod
    def input_channels(cls, config: Any, channels: int) -> int:
        """The channels that the encoder is built for, where the method makes others of those of the images."""
        return channels

    @abstractmethod
    def phases(self) -> Sequence[Phase]:
        """The phases of training, in order; at least one."""

    @abstractmethod
    def training_step(self, batch: Batch, context: Context) -> StepOutput:
        """The loss of one batch."""

    def forward(self, batch: Batch, context: Context) -> StepOutput:
        """`training_step`, under the name that wrappers such as DDP call."""
        return self.training_step(batch, context)

    def before_epoch(self, context: Context) -> None:
        """Called before every epoch, in evaluation mode and without gradient."""
        return

    def after_step(self, progress: float) -> None:
        """Called after every optimiser step; `progress` is the share of all steps that was finished before it, in [0, 1)."""
        return

    @abstractmethod
    def features(self) -> nn.Module:
        """Images (b c h w) to features (b d): a part of this module, used in evaluation mode."""

    def trained_features(self) -> nn.Module:
        """As `features`, with gradient, for a term that is added to any method: of a moving average, what it follows."""
        return self.features()

    def assigner(self) -> Assigner:
        """How features become clusters; by default by the centroids of k-means on the normalised features."""
        return Centroids()

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Trained parameters by role; `encoder` should be one of them. Each parameter has one role."""
        return {"encoder": [parameter for parameter in self.parameters() if parameter.requires_grad]}

    def networks(self) -> Sequence[nn.Module]:
        """The parts that are called, each of which `train.compile` compiles."""
        return list(self.children())

    @property
    def backbone(self) -> nn.Module | None:
        """The encoder that a pretrained backbone became, for learning rates by depth; None where there is none."""
        return getattr(self, "encoder", None)


@torch.no_grad()
def move_towards(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """target <- momentum * target + (1 - momentum) * online, over all parameters (an exponential moving average)."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), 1 - momentum)
