"""Base classes of the config sections of plug-ins."""

from typing import Any, ClassVar

from connr.recipe.section import Section


class BackboneConfig(Section):
    """The section `backbone`.

    Attributes:
        takes_features: whether the input is rows of features (b d), not images (b c h w).
        pretrained: whether the backbone has pretrained weights.
    """

    takes_features: ClassVar[bool] = False
    pretrained: ClassVar[bool] = False

    name: str

    @property
    def is_frozen(self) -> bool:
        """Whether its features are computed once and only the heads are trained."""
        return False

    def build(self, channels: int) -> Any:
        """The network with initial weights: images with `channels` channels, or rows of that width, to features (b f)."""
        raise NotImplementedError(f"backbone {self.name!r} is not built from its section alone.")


class MethodConfig(Section):
    """The section `method`. A subclass adds `name: Literal["..."] = "..."` and the settings of its method."""

    name: str
