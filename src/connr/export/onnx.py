"""One .onnx file: uint8 images (n h w c) -> features, cluster, distance; n is free."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from connr import __version__
from connr.data.stream import open_stream
from connr.errors import ExportMismatch, InputError
from connr.export.deployed import Deployed
from connr.model import Model
from connr.networks import Standardise
from connr.recipe import Recipe
from connr.run_folder import replacing

OPSET = 18
OUTPUTS = ("features", "cluster", "distance")
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-3  # the latter where features on the way are rounded to half precision
CHECKED_ON = 256  # images, of the run's own data where they are still there, else digits


def save_onnx(r: Recipe, model: Model, source: str, path: Path) -> float:
    """Writes the file once it gave torch's answers on real images, and returns by how much they differed at most.

    Raises:
        InputError: a package is missing.
        NotTheSame: a feature or distance differs by more than TOLERANCE, or a cluster where it is no tie.
    """
    onnx, runtime = _packages()
    deployed = Deployed(model.representation, model.assigner, model.mean, model.std, model.takes_features).cpu().eval()
    images = rows_like(model) if model.takes_features else real_images(source, r.data.size, r.data.channels)
    name = "features_in" if model.takes_features else "images"
    with replacing(path) as draft:
        with _quiet():
            program = torch.onnx.export(
                deployed,
                (images[:2],),
                dynamo=True,
                opset_version=OPSET,
                input_names=[name],
                output_names=list(OUTPUTS),
                dynamic_shapes={"images": {0: torch.export.Dim("n", min=1)}},
                verbose=False,
            )
        assert program is not None  # what dynamo=True returns
        proto = program.model_proto
        described = {"connr": __version__, "clusters": str(model.n_clusters), "description": r.description}
        onnx.helper.set_model_props(proto, described)
        onnx.checker.check_model(proto, full_check=True)
        draft.write_bytes(proto.SerializeToString())
        session = runtime.InferenceSession(str(draft), providers=["CPUExecutionProvider"])
        return compare(deployed, session, images)


def compare(deployed: Deployed, session: Any, images: UInt8[Tensor, "n h w c"] | Float[Tensor, "n f"]) -> float:
    """The largest difference between ONNX and torch, over batches of all the images and of one.

    Raises:
        NotTheSame: as in `save_onnx`.
    """
    worst, rounds = 0.0, any(isinstance(module, Standardise) for module in deployed.modules())
    tolerance = HALF_TOLERANCE if rounds else TOLERANCE
    for batch in (images, images[:1]):
        features, clusters, distances = session.run(list(OUTPUTS), {session.get_inputs()[0].name: batch.numpy()})
        with torch.no_grad():
            ours = [value.numpy() for value in deployed(batch)]
        off = max(float(np.abs(features - ours[0]).max()), float(np.abs(distances - ours[2]).max()))
        worst = max(worst, off)
        other = clusters != ours[1]
        ties = np.abs(distances - ours[2]) <= tolerance  # another cluster that is as near
        if not off <= tolerance or (other & ~ties).any():
            raise ExportMismatch(f"ONNX differs from torch by {off:.1e} and in {other.sum()} of {len(batch)} clusters.")
    return worst


def rows_like(model: Model) -> Float[Tensor, "n f"]:
    """Made-up rows with the means and deviations of those of the fit."""
    mean, std = torch.tensor(model.mean), torch.tensor(model.std)
    return mean + std * torch.randn(CHECKED_ON, len(mean), generator=torch.Generator().manual_seed(0))


def real_images(source: str, size: int, channels: int) -> UInt8[Tensor, "n h w c"]:
    """Some of the images of the run, or digits where those are not available."""
    for data in (source, "digits"):
        try:
            chunk = next(open_stream(data, size, channels, CHECKED_ON).chunks) if data else None
        except InputError:  # moved, or never on this machine
            continue
        if chunk and chunk.names:
            return chunk.images.permute(0, 2, 3, 1).contiguous()
    raise AssertionError("digits come with scikit-learn")


def _packages() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as fault:
        raise InputError('--to onnx needs onnx, onnxruntime and onnxscript: pip install "connr[onnx]".') from fault
    return onnx, onnxruntime


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's own warnings are about its insides."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
