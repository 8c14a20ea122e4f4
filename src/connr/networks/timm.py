"""`timm:NAME`, and folders in timm's format: networks of timm without their classifier."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from connr.errors import InputError
from connr.networks.backbone import Backbone, Input
from connr.networks.weights import download, first_line, read_weights

FILE = "model.safetensors"
# Arguments of networks that a foreign config.json may set: shapes and layers; no file, no download.
ARGUMENTS = """act_layer attn_pool_num_heads block_args cardinality channels class_token depth depths dims drop_path_rate
drop_rate dynamic_img_pad dynamic_img_size embed_dim fc_norm final_norm global_pool head_hidden_size head_init_scale img_size
in_chans init_values layers mlp_ratio no_embed_class norm_layer num_heads output_stride patch_drop_rate patch_size
pos_drop_rate pos_embed pre_norm proj_bias proj_drop_rate qk_norm qkv_bias reg_tokens stem_type strict_img_size
swiglu_mlp use_abs_pos_emb use_mean_pooling use_rel_pos_bias use_rot_pos_emb weight_init width window_size"""


def input_of(name: str) -> Input:
    """From timm's `pretrained_cfg`.

    Raises:
        InputError: timm is not installed, or there is no such network.
    """
    return input_of_settings(_settings(name))


def input_of_settings(settings: dict[str, Any]) -> Input:
    """The input format of a `pretrained_cfg`."""
    channels, size, _ = settings.get("input_size", (3, 224, 224))
    return Input(
        size=size,
        channels=channels,
        mean=list(settings.get("mean", (0.485, 0.456, 0.406))),
        std=list(settings.get("std", (0.229, 0.224, 0.225))),
        interpolation="bilinear" if settings.get("interpolation") == "bilinear" else "bicubic",  # as timm itself
    )


def open_network(name: str, weights: str | None, size: int = 0) -> Backbone:
    """The network with its pretrained weights, those of a file, or random ones.

    Args:
        name: of the network.
        weights: a file; `random`; None for the pretrained ones.
        size: of the images in pixels; 0 for that of the configuration.

    Raises:
        InputError: as `input_of`; or the weights are not available or cannot be read.
    """
    settings = _settings(name)
    path = None if weights == "random" else Path(weights) if weights else _fetched(name, settings)
    return assembled(name.partition(".")[0], settings, {}, path, size)


def assembled(
    architecture: str, settings: dict[str, Any], arguments: dict[str, Any], path: Path | None, size: int = 0
) -> Backbone:
    """The network of a `pretrained_cfg` and `model_args`, with the weights of a file; None for random ones.

    Raises:
        InputError: the weights do not fit, or timm does not have the network.
    """
    timm = _timm()
    check_arguments(architecture, arguments)
    if size and size != input_of_settings(settings).size and settings.get("fixed_input_size"):
        arguments = {**arguments, "img_size": size}
    backbone_config = {"kind": "timm", "name": architecture, "arguments": arguments}
    if path is None:
        return Backbone(rebuild(backbone_config), input_of_settings(settings), backbone_config, "random")
    tensors = read_weights(path)
    heads = settings.get("classifier") or ()
    names = (heads,) if isinstance(heads, str) else tuple(heads)
    classes = settings.get("num_classes", 1000) if any(f"{name}.weight" in tensors for name in names) else 0
    plain = {key: value for key, value in settings.items() if key not in ("source", "hf_hub_id", "file", "url", "custom_load")}
    plain |= {"num_classes": classes}  # so that timm checks the tensors strictly
    try:
        network = timm.create_model(
            architecture,
            pretrained=True,
            pretrained_cfg=plain,
            pretrained_cfg_overlay={"state_dict": tensors},
            num_classes=classes,
            **arguments,
        )
        network.reset_classifier(0)
    except (RuntimeError, KeyError, TypeError, AttributeError) as fault:
        lines = " ".join(line.strip() for line in str(fault).splitlines()[:3])
        raise InputError(f"the weights {path} do not fit timm's {architecture}: {lines[:300]}") from fault
    return Backbone(network, input_of_settings(settings), backbone_config, str(path))


def rebuild(backbone_config: dict[str, Any]) -> nn.Module:
    """The network of a `Backbone.backbone_config`, without weights.

    Raises:
        InputError: timm does not have the network or cannot build it, or an argument is not allowed.
    """
    name, arguments = backbone_config.get("name"), backbone_config.get("arguments", {})
    check_arguments(name, arguments)
    try:
        network: nn.Module = _timm().create_model(name, pretrained=False, num_classes=0, **arguments)
    except Exception as fault:  # unsuitable numbers may raise any exception
        raise InputError(f"timm does not build {name} with {arguments}: {first_line(fault)}") from fault
    return network


def check_arguments(name: object, arguments: object) -> None:
    """Allows only the name of a network of timm and plain values of `ARGUMENTS`, as both may come from a foreign file.

    timm's `create_model` would take a place on the Hub for a name, and read a file for `checkpoint_path`.

    Raises:
        InputError: what is not allowed, by name.
    """
    timm = _timm()
    if not isinstance(name, str) or not name.isidentifier() or not timm.is_model(name):
        raise InputError(f"timm {timm.__version__} has no network {name!r:.80}.")
    if not isinstance(arguments, dict):
        raise InputError(f"the arguments of timm's {name} should be a mapping, not {type(arguments).__name__}.")
    for key, value in arguments.items():
        if key not in ARGUMENTS.split() or not _plain(value):
            allowed = ", ".join(ARGUMENTS.split())
            raise InputError(
                f"timm's {name}: the argument {key!r:.80} is not allowed or not a plain value; allowed: {allowed}."
            )


def _plain(value: object) -> bool:
    """A number of at most 4,096, a short text, or a list of those."""
    if isinstance(value, list | tuple):
        return len(value) <= 64 and all(_plain(one) and not isinstance(one, list | tuple) for one in value)
    if isinstance(value, int | float):
        return abs(value) <= 4096
    return value is None or (isinstance(value, str) and len(value) <= 64)


def prefer_if_cached(name: str) -> Path | None:
    """The file of the weights in the Hub's cache; None if there is none."""
    if not find_spec("timm"):
        return None
    try:
        from huggingface_hub import try_to_load_from_cache

        repository = f"timm/{name}" if "." in name else _repository(_settings(name))  # timm takes seconds to import
        found = try_to_load_from_cache(repository, FILE)
    except (ImportError, InputError):
        return None
    return Path(found) if isinstance(found, str) else None


def _settings(name: str) -> dict[str, Any]:
    timm = _timm()
    try:
        settings = timm.get_pretrained_cfg(name)
    except (RuntimeError, ValueError) as fault:
        raise InputError(f"timm:{name}: {fault}") from fault
    if settings is None or not timm.is_model(name.partition(".")[0]):
        raise InputError(f"timm {timm.__version__} has no network {name!r}; its names: timm.list_models(pretrained=True).")
    found: dict[str, Any] = settings.to_dict()
    return found


def _repository(settings: dict[str, Any]) -> str:
    given = str(settings.get("hf_hub_id") or "timm/")
    return given if not given.endswith("/") else f"{given}{settings.get('architecture')}.{settings.get('tag')}".rstrip(".")


def _fetched(name: str, settings: dict[str, Any]) -> Path:
    if found := prefer_if_cached(name):
        return found
    repository = _repository(settings)
    url = f"https://huggingface.co/{repository}/resolve/main/{FILE}"

    def fetch() -> str:
        from huggingface_hub import hf_hub_download

        return hf_hub_download(repository, FILE)

    return download(f"timm:{name}", url, None, fetch)


def _timm() -> Any:
    try:
        import timm
    except ImportError as fault:
        raise InputError('networks of timm need it: pip install "connr[timm]".') from fault
    return timm
