"""Numerical care that all losses share: float32 at least, logarithms that stay finite, sizes that are refused."""

import torch
from jaxtyping import Float
from torch import Tensor

EPSILON = 1e-30  # normal in float32 and bfloat16; ln(EPSILON) = -69.1 is the least that `clamped_log` returns


def upcast(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The values in float32; float64 stays float64."""
    return values if values.dtype == torch.float64 else values.float()


def clamped_log(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """ln max(values, 1e-30), finite for every value >= 0. Where the clamp is active, the gradient is 0."""
    return upcast(values).clamp(min=EPSILON).log()


def check_temperature(temperature: float) -> None:
    """Refuses a temperature that is not positive.

    Raises:
        ValueError: temperature <= 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} should be > 0.")


def check_rows(name: str, rows: Tensor, at_least: int = 1) -> None:
    """Refuses a tensor with too few rows.

    Raises:
        ValueError: fewer than `at_least` rows.
    """
    if rows.shape[0] < at_least:
        raise ValueError(f"{name} has {rows.shape[0]} rows and should have at least {at_least}.")
