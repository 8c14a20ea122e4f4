"""`hub:FOLDER` and `hub:USER/NAME`: config.json and model.safetensors, in the format of timm on the Hugging Face Hub."""

from pathlib import Path
from typing import Any

from connr.errors import InputError
from connr.networks import timm
from connr.networks.backbone import Backbone, Input
from connr.networks.weights import download
from connr.schema import check_timm_config, read_json

FILES = ("model.safetensors", "pytorch_model.bin")  # the first that exists


def is_connr(place: str) -> bool:
    """Whether a folder or repository holds a model of connr."""
    return "recipe" in read_config(place)


def read_config(place: str) -> dict[str, Any]:
    """config.json.

    Raises:
        InputError: it is not available, or describes a network that is not supported.
    """
    path = Path(place) / "config.json" if Path(place).is_dir() else _fetched(place, "config.json")
    config = read_json(path)
    if not ("architecture" in config or "recipe" in config):
        kind = (
            f"a model of transformers ({str(config['model_type'])[:40]})"
            if "model_type" in config
            else "no network of timm or connr"
        )
        raise InputError(f"hub:{place} is {kind}: connr takes those of timm, e.g. timm:vit_small_patch14_dinov2, and its own.")
    return config


def weights_of(place: str) -> Path:
    """The file of weights: in the folder, in the Hub's cache, or downloaded."""
    if not Path(place).is_dir():
        return _fetched(place, FILES[0])
    for name in FILES:
        if (path := Path(place) / name).is_file():
            return path
    raise InputError(f"hub:{place} holds no weights: there should be {' or '.join(FILES)}.")


def input_of(place: str) -> Input:
    return timm.input_of_settings(check_timm_config(read_config(place), f"hub:{place}").settings)


def open_network(place: str, weights: str | None, size: int = 0) -> Backbone:
    """As `timm.open_network`, of what the configuration says."""
    config = check_timm_config(read_config(place), f"hub:{place}")
    path = None if weights == "random" else Path(weights) if weights else weights_of(place)
    arguments = {key: value for key, value in config.model_args.items() if key != "num_classes"}
    return timm.assembled(config.architecture, config.settings, arguments, path, size)


def prefer_if_cached(place: str) -> Path | None:
    if Path(place).is_dir():
        return next((Path(place) / name for name in FILES if (Path(place) / name).is_file()), None)
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(place, FILES[0]) if place.count("/") == 1 else None
    return Path(found) if isinstance(found, str) else None


def _fetched(place: str, file: str) -> Path:
    if place.count("/") != 1 or place.startswith((".", "/")):
        raise InputError(f"hub:{place} should be a folder with config.json and model.safetensors, or USER/NAME on the Hub.")

    def fetch() -> str:
        try:
            from huggingface_hub import hf_hub_download, try_to_load_from_cache
        except ImportError as fault:
            raise InputError('the Hub needs huggingface_hub: pip install "connr[hub]".') from fault
        cached = try_to_load_from_cache(place, file)  # without a request to the Hub
        return cached if isinstance(cached, str) else hf_hub_download(place, file)

    return download(f"hub:{place}", f"https://huggingface.co/{place}/resolve/main/{file}", None, fetch)
