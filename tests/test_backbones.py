"""Backbones by name, from small files in the real formats that the tests write: torchvision, timm, Hub, former runs."""

import json
import os
import pickle
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from torch import nn
from torchvision import models

from connr import ConNR
from connr.errors import InputError
from connr.networks import (
    expects,
    features_out,
    mlp_encoder,
    open_backbone,
    own,
    parameters_by_depth,
    prefer_if_cached,
    rebuild,
    resnet,
    small_resnet,
)
from connr.networks.pointwise import StridedPointwise, without_strided_pointwise
from connr.networks.weights import read_weights

SMALL_VIT = {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": 32, "patch_size": 8}


def opened(model, weights=None, size=0):
    return open_backbone(model, weights, size)


def random_state(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """Torch's cache is empty, and there is no way to the network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """The Hub's cache is empty, and offline."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def timm_folder(tmp_path):
    """A small ViT with its classifier, as `timm.models.push_to_hf_hub` lays it out."""
    timm = pytest.importorskip("timm")
    network = timm.create_model("vit_tiny_patch16_224", num_classes=7, **SMALL_VIT)
    network.load_state_dict(random_state(network))
    folder = tmp_path / "vit"
    timm.models._hub.save_for_hf(network, str(folder), model_args=SMALL_VIT, safe_serialization=True)
    return folder, network


def in_the_cache(cache, repository, folder):
    """The files of a folder as a snapshot of USER/NAME in the Hub's cache."""
    place = cache / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    (place / "snapshots").mkdir()
    (place / "snapshots" / ("0" * 40)).symlink_to(folder)


def features(network, images):
    network.eval()
    with torch.no_grad():
        return network(images)


# torchvision


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_0"])
def test_torchvisions_state_dict_is_read_and_its_classifier_taken_off(name, tmp_path):
    if name == "squeezenet1_0":
        with pytest.raises(InputError, match="no linear layer at its end"):
            opened(f"torchvision:{name}", "random")
        return
    whole = models.get_model(name)
    whole.load_state_dict(random_state(whole))
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    found = opened(f"torchvision:{name}", str(tmp_path / "weights.pth"))
    last = [module for module in whole.modules() if isinstance(module, nn.Linear)][-1]
    images = torch.rand(2, 3, 64, 64)
    assert torch.allclose(features(nn.Sequential(found.network, last), images), features(whole, images), rtol=1e-4)
    assert features_out(found.network, 3, 64, 64) == last.in_features
    again = rebuild(json.loads(json.dumps(found.backbone_config)))
    again.load_state_dict(found.network.state_dict())
    assert torch.equal(features(again, images), features(found.network, images))


def test_torchvisions_input_is_that_of_its_weights():
    one, two = expects("torchvision:resnet50"), expects("torchvision:swin_v2_t")
    assert (one.size, one.channels, one.interpolation, two.size, two.interpolation) == (224, 3, "bilinear", 256, "bicubic")
    assert one.mean == [0.485, 0.456, 0.406]
    assert expects("torchvision:regnet_y_16gf:IMAGENET1K_SWAG_E2E_V1").size == 384
    with pytest.raises(InputError, match="should be one of: IMAGENET1K_V1, IMAGENET1K_V2"):
        expects("torchvision:resnet50:V3")
    with pytest.raises(InputError, match="should be one of: alexnet, "):
        expects("torchvision:resnet51")


def test_weights_that_are_nowhere_are_named_with_where_to_get_and_put_them(torch_home):
    with pytest.raises(InputError) as refused:
        opened("torchvision:resnet18")
    said = str(refused.value)
    assert "get https://download.pytorch.org/models/resnet18-f37072fd.pth elsewhere" in said
    assert f"put it at {torch_home / 'resnet18-f37072fd.pth'}, or say where it is with --set backbone.weights=FILE" in said
    assert "\n" not in said
    assert list(torch_home.glob("*")) == []  # nothing half-loaded is left


def test_weights_in_torchs_cache_are_at_hand(torch_home):
    assert prefer_if_cached("torchvision:resnet18") is None
    network = models.resnet18()
    torch_home.mkdir(parents=True)
    torch.save(network.state_dict(), torch_home / "resnet18-f37072fd.pth")
    assert prefer_if_cached("torchvision:resnet18") == torch_home / "resnet18-f37072fd.pth"
    found = opened("torchvision:resnet18")
    assert found.source == str(torch_home / "resnet18-f37072fd.pth")
    assert torch.equal(found.network.conv1.weight, network.conv1.weight)


# Files


class Evil:
    """What unpickles to a file that is there."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("ending", ["pth", "bin", "pt", "safetensors"])
@pytest.mark.parametrize("write", ["torch", "pickle"])
def test_a_file_with_code_in_it_is_refused_and_the_code_does_not_run(tmp_path, ending, write):
    path, trace = tmp_path / f"weights.{ending}", tmp_path / "ran"
    content = {"conv1.weight": torch.zeros(2), "more": Evil(trace)}
    if write == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=r"refused|cannot be read"):
        read_weights(path)
    assert not trace.exists()
    again = path.rename(tmp_path / "again.pth")  # torch knows a safetensors file by its ending, too
    torch.load(again, weights_only=False) if write == "torch" else pickle.loads(again.read_bytes())
    assert trace.exists()  # it would have


@pytest.mark.parametrize("content", [b"", b"no weights", {"a": 3}, torch.zeros(2), {}])
def test_files_that_are_no_state_dict_are_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(InputError, match=r"cannot be read|is not a state dict|is not a file of weights|is no file of weights"):
        read_weights(path)
    with pytest.raises(InputError, match="do not exist"):
        read_weights(tmp_path / "nowhere.pth")


def test_what_trainers_wrap_around_a_state_dict_comes_off(tmp_path):
    torch.save({"epoch": 3, "state_dict": {"module.weight": torch.ones(2)}}, tmp_path / "checkpoint.pth")
    assert torch.equal(read_weights(tmp_path / "checkpoint.pth")["weight"], torch.ones(2))


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(models.resnet34().state_dict(), tmp_path / "other.pth")
    with pytest.raises(InputError, match="are of another network: Unexpected key"):
        opened("torchvision:resnet18", str(tmp_path / "other.pth"))


# timm and the Hub


def test_timms_folder_is_read_with_its_own_input(timm_folder):
    folder, network = timm_folder
    found = opened(f"hub:{folder}")
    images = torch.rand(2, 3, 32, 32)
    network.reset_classifier(0)
    assert torch.equal(features(found.network, images), features(network, images))
    assert (found.input.size, found.input.interpolation, found.input.mean) == (32, "bicubic", [0.5, 0.5, 0.5])
    assert expects(f"hub:{folder}") == found.input
    again = rebuild(json.loads(json.dumps(found.backbone_config)))
    assert set(again.state_dict()) == set(found.network.state_dict())
    assert prefer_if_cached(f"hub:{folder}") == folder / "model.safetensors"


def test_a_repository_of_the_hub_is_read_from_its_cache(timm_folder, hub_cache):
    folder, network = timm_folder
    with pytest.raises(
        InputError, match=r"not on this machine .*: get https://huggingface.co/some/vit/resolve/main/config.json"
    ):
        expects("hub:some/vit")
    in_the_cache(hub_cache, "some/vit", folder)
    assert prefer_if_cached("hub:some/vit").name == "model.safetensors"
    images = torch.rand(2, 3, 32, 32)
    network.reset_classifier(0)
    assert torch.equal(features(opened("hub:some/vit").network, images), features(network, images))


def test_timm_by_name_takes_the_hubs_cache_a_file_or_nothing(tmp_path, hub_cache):
    timm = pytest.importorskip("timm")
    with pytest.raises(InputError, match=r"get https://huggingface.co/timm/resnet10t.c3_in1k/resolve/main/model.safetensors"):
        opened("timm:resnet10t")
    assert prefer_if_cached("timm:resnet10t.c3_in1k") is None
    network = timm.create_model("resnet10t")
    network.load_state_dict(random_state(network))
    timm.models._hub.save_for_hf(network, str(tmp_path / "saved"), safe_serialization=True)
    in_the_cache(hub_cache, "timm/resnet10t.c3_in1k", tmp_path / "saved")
    images = torch.rand(2, 3, 64, 64)
    found = opened("timm:resnet10t")
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    network.reset_classifier(0)
    assert torch.equal(features(found.network, images), features(network, images))
    safetensors.torch.save_file(network.state_dict(), tmp_path / "headless.safetensors")
    for path in (tmp_path / "weights.pth", tmp_path / "headless.safetensors"):
        assert torch.equal(features(opened("timm:resnet10t", str(path)).network, images), features(network, images))
    safetensors.torch.save_file({"other": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="do not fit timm's resnet10t"):
        opened("timm:resnet10t", str(tmp_path / "other.safetensors"))
    torch.save({**network.state_dict(), "x": Evil(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="refused"):
        opened("timm:resnet10t", str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


def test_networks_for_one_size_are_made_for_the_size_that_they_are_given():
    pytest.importorskip("timm")
    assert features_out(opened("timm:vit_tiny_patch16_224", "random", 64).network, 3, 64, 64) == 192
    with pytest.raises(InputError, match=r"does not take images of shape \[3, 64, 64\]"):
        features_out(opened("torchvision:vit_b_16", "random").network, 3, 64, 64)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("hub", {"model_type": "dinov2"}, r"a model of transformers \(dinov2\)"),
        ("hub", {"a": 1}, "no network of timm or connr"),
        ("hub", {"architecture": "resnet9000"}, "timm .* has no network 'resnet9000'"),
        ("run", {"a": 1}, "is neither a finished run"),
    ],
)
def test_folders_that_are_no_backbone_are_refused(tmp_path, name, config, message):
    pytest.importorskip("timm")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        opened(f"{name}:{tmp_path}", "random")


@pytest.mark.parametrize(
    "model", ["resnet18", "torch:resnet18", "timm:", "hub:a/b/c", "hub:/nowhere", "run:/nowhere", "timm:nothing"]
)
def test_names_that_are_none_are_refused_with_those_that_are(model):
    with pytest.raises(
        InputError,
        match=r"should read torchvision:NAME|should be a folder|is no finished run|is neither a finished run|has no network",
    ):
        expects(model)


# Runs of connr's own


def test_the_backbone_of_a_former_run(coloured_run):
    former = ConNR.load(coloured_run)
    found = opened(f"run:{coloured_run}")
    images = torch.rand(2, 3, 16, 16)
    assert torch.allclose(features(found.network, images), features(former.model_.representation[0], images), atol=1e-6)
    assert (found.input.size, found.input.mean) == (16, former.model_.mean)
    assert expects(f"hub:{coloured_run}") == found.input  # as `connr export --to hub` leaves it
    again = rebuild(json.loads(json.dumps(found.backbone_config)))
    again.load_state_dict(found.network.state_dict())


# Rows, and depths


def test_the_encoder_of_rows_is_as_deep_as_asked():
    assert features_out(mlp_encoder(7, [5, 3]), 7) == 3
    assert features_out(mlp_encoder(7, []), 7) == 7
    assert [type(layer).__name__ for layer in mlp_encoder(7, [5])] == ["Linear", "BatchNorm1d", "ReLU"]


def test_every_depth_has_a_factor_that_rises_to_the_last():
    network = models.resnet18()
    groups = parameters_by_depth(network, 0.1)
    factors = [factor for factor, _ in groups]
    assert factors == pytest.approx([0.1 ** (1 - depth / 6) for depth in range(7)])  # conv1, bn1, layer1 to 4, fc
    assert {id(p) for _, group in groups for p in group} == {id(p) for p in network.parameters()}
    assert groups[2][1][0] is network.layer1[0].conv1.weight
    assert (
        len(parameters_by_depth(models.vit_b_16(), 0.1)) == 1 + 1 + 1 + 12 + 1 + 1
    )  # token, patches, positions, layers, norm, head
    assert [factor for factor, _ in parameters_by_depth(nn.Linear(2, 2), 0.5)] == [0.5, 1.0]


# Strided 1x1 convolutions, which oneDNN damages memory with

TRAINS = """
import torch
from torch import nn
from connr.networks import own, small_resnet

torch.manual_seed(0)
for width in (4, 8, 12):
    mine = own(nn.Sequential(nn.Conv2d(3, width, 1), nn.Conv2d(width, 16, 1, 2), nn.Flatten()), 64, 3).network.train()
    for network in (small_resnet(3, width, 2), mine):
        network = network.to(memory_format=torch.channels_last)
        for _ in range(5):
            images = torch.randn(16, 3, 64, 64).to(memory_format=torch.channels_last)
            network(images).square().sum().backward()
print("trained")
"""


def test_narrow_networks_train_on_channels_last_images():
    """On processors with AVX-512 the strided convolution itself ends the process with SIGSEGV."""
    ended = subprocess.run([sys.executable, "-c", TRAINS], capture_output=True, text=True, timeout=600)
    assert (ended.returncode, ended.stdout) == (0, "trained\n"), ended.stderr


@pytest.mark.parametrize(("stride", "groups", "bias"), [(2, 1, False), (3, 2, True), ((1, 2), 1, True)])
@pytest.mark.parametrize("size", [(7, 8), (1, 1)])
def test_a_slice_before_a_1x1_convolution_is_its_stride(stride, groups, bias, size):
    torch.manual_seed(0)
    strided = nn.Conv2d(4, 6, 1, stride, groups=groups, bias=bias).double()
    sliced = StridedPointwise(4, 6, 1, stride, groups=groups, bias=bias).double()
    sliced.load_state_dict(strided.state_dict())
    x = torch.randn(3, 4, *size, dtype=torch.float64)
    images = [x.clone().requires_grad_() for _ in range(2)]
    for network, x in zip((strided, sliced), images, strict=True):
        network(x).square().sum().backward()
    assert torch.allclose(sliced(images[1]), strided(images[0]), rtol=1e-12)
    assert torch.allclose(images[1].grad, images[0].grad, rtol=1e-12)
    for one, other in zip(sliced.parameters(), strided.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-12)


def strided_pointwise(network):
    return {
        name: type(module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.stride != (1, 1)
    }


def test_no_network_that_is_opened_has_a_strided_1x1_convolution():
    pytest.importorskip("timm")
    user = nn.Sequential(nn.Conv2d(3, 4, 1, 2), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, 2), nn.Conv2d(4, 4, 1, 2, padding=1))
    networks = {
        "resnet": (resnet("resnet18"), 3),
        "small": (small_resnet(3, 8, 4), 3),
        "torchvision": (opened("torchvision:resnet50", "random").network, 3),
        "timm": (opened("timm:resnet18", "random").network, 3),
        "own": (own(user, 32, 3).network, 1),
    }
    for name, (network, count) in networks.items():
        found = list(strided_pointwise(network).values())
        safe = [kind for kind in found if kind is StridedPointwise]
        assert len(safe) == count, name
        assert len(found) - len(safe) == (1 if name == "own" else 0), name  # a padded one is not a slice
    plain = models.resnet50()
    assert list(networks["torchvision"][0].state_dict()) == [name for name in plain.state_dict() if not name.startswith("fc.")]
    assert type(user[0]) is nn.Conv2d  # the user's own module is left alone
    before = {name: id(parameter) for name, parameter in plain.named_parameters()}
    assert {name: id(parameter) for name, parameter in without_strided_pointwise(plain).named_parameters()} == before
