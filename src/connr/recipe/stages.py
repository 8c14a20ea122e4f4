"""What a stage plugs into the sockets, and its learning rates."""

from typing import Annotated, Literal

from pydantic import Field

from connr.recipe.section import Count, Fraction, Layers, NonNegative, Positive, Section, Share


class Itself(Section):
    """N(i) = {i}, Eq. 1."""

    name: Literal["itself"]


class Local(Section):
    """The k nearest by cosine, Eq. 2."""

    name: Literal["local"]
    k: Count = 10


class Contextual(Section):
    """Eqs. 3-7."""

    name: Literal["contextual"]
    k: Count = 10
    k1: Count = 10
    k2: Count = 2
    alpha: NonNegative = 2.0
    layers: Layers = 2


class AllAnchors(Section):
    """All images are anchors."""

    name: Literal["all"]


class Boundary(Section):
    """Eqs. 9-13: `fraction` of the anchors kept at t0, rising to `final` at the share `until` of all epochs (Eq. 12).

    `inclusive_threshold: false` drops the image at the threshold as well.
    """

    name: Literal["boundary"]
    fraction: Fraction = 0.8
    final: Fraction = 1.0
    until: Share = 1.0
    inclusive_threshold: bool = True


class LearningRateFactors(Section):
    """Factors on the learning rate of each group of parameters."""

    encoder: NonNegative = 1.0
    predictor: NonNegative = 1.0


NeighbourhoodSection = Annotated[Itself | Local | Contextual, Field(discriminator="name")]
AnchorsSection = Annotated[AllAnchors | Boundary, Field(discriminator="name")]


class Stage(Section):
    """What a stage plugs into the sockets, by default stage 1; `crop_scale` replaces that of `augment`.

    `memory`: neighbours are sought among the keys of the batch and so many of the batches before, of the same epoch; for
    batches that have fewer than k images of a cluster. `loss_scale` multiplies the loss, and so its gradients.
    """

    neighbourhood: NeighbourhoodSection = Itself(name="itself")
    anchors: AnchorsSection = AllAnchors(name="all")
    crop_scale: tuple[Fraction, Fraction] | None = None
    lr_factors: LearningRateFactors = LearningRateFactors()
    memory: Annotated[int, Field(ge=0, le=2**20)] = 0
    loss_scale: Positive = 1.0


class GroupStage(Stage):
    """Stage 2."""

    neighbourhood: NeighbourhoodSection = Contextual(name="contextual")
    anchors: AnchorsSection = Boundary(name="boundary")
