"""Plug-ins by name, by entry point and by file, and what is said of wrong ones."""

import sys

import pytest
from pydantic import BaseModel
from test_cli import connr

from connr import recipe
from connr.errors import InputError
from connr.methods import MethodConfig
from connr.recipe import RecipeError
from connr.registry import ANCHOR_FILTERS, BACKBONES, METHODS, NEIGHBOURHOODS, Registry

METHOD = '''"""A method."""
from typing import Literal

from torch import nn

from connr.losses import nt_xent
from connr.methods import Method, MethodConfig, Phase, StepOutput, register


class OtherConfig(MethodConfig):
    """Its width."""

    name: Literal["{name}"] = "{name}"
    width: int = 8


@register("{name}")
class Other(Method):
    Config = OtherConfig

    def __init__(self, config, setup):
        super().__init__()
        self.network = nn.Sequential(setup.encoder, nn.Linear(setup.width, config.width))

    def phases(self):
        return [Phase("contrast")]

    def training_step(self, batch, context):
        one, other = (context.gather(self.network(view)) for view in batch.views.values())
        return StepOutput(nt_xent(one, other, temperature=0.5))

    def features(self):
        return self.network
'''


@pytest.fixture
def unregistered(monkeypatch):
    """What a test registers is gone after it, and plug-ins are looked for anew in it."""
    list(METHODS)
    monkeypatch.setattr(METHODS, "_found", dict(METHODS._found))
    monkeypatch.setattr(METHODS, "_complete", False)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("connr_plugin_", "other_package")):
            del sys.modules[name]


def test_every_plug_in_has_a_config_that_says_what_it_is():
    for registry in (METHODS, NEIGHBOURHOODS, ANCHOR_FILTERS, BACKBONES):
        assert len(list(registry)) >= 2
        for name, plugin in registry.items():
            config = getattr(plugin, "Config", plugin)
            assert issubclass(config, BaseModel)
            assert config.__doc__ != BaseModel.__doc__, name
            assert (config.__dict__.get("__doc__") or "").strip(), f"{registry.kind} {name} has no docstring"
            assert (plugin.__dict__.get("__doc__") or "").strip(), f"{registry.kind} {name} has no docstring"


def test_the_methods_are_those_that_come_with_the_package():
    assert {"byol", "connr", "idfd", "iic", "moco", "scan", "simsiam"} <= set(METHODS)


def test_a_name_that_is_taken_is_refused_and_the_same_class_again_is_not():
    registry = Registry("thing", "connr.methods")

    @registry.register("one")
    class One: ...

    assert registry.register("one")(One) is One
    with pytest.raises(ValueError, match=r"thing 'one' is registered already, by test_registry\..*One"):

        @registry.register("one")
        class Two: ...

    assert registry["one"] is One


@pytest.mark.parametrize(("wrong", "near"), [("biol", "byol"), ("idfb", "idfd"), ("simsam", "simsiam"), ("scam", "scan")])
def test_an_unknown_name_names_the_nearest(wrong, near):
    with pytest.raises(InputError, match=rf"method '{wrong}' is not one of: .*byol, .* Did you mean .*{near}"):
        METHODS[wrong]
    with pytest.raises(RecipeError, match=rf"method.*{wrong}.*Did you mean .*{near}"):
        recipe.load("digits", [f"method={{name: {wrong}}}"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("method={name: iic, heads: 0}", "method.heads=0: Input should be greater than or equal to 1."),
        ("method={name: scan, temperatur: 1}", "method.temperatur is not a key. Did you mean method.temperature?"),
        ("method={name: idfd, momentum: 2}", "method.momentum=2: Input should be less than or equal to 1."),
        ("method.base={name: moco, queue: none}", "method.base.queue='none'"),
        ("method.base={name: byol, quee: 3}", "method.base.quee is not a key."),
        ("method.group.neighbourhood={name: local, k1: 3}", "method.group.neighbourhood.k1 is not a key."),
        ("method.group.anchors.fraction=2", "method.group.anchors.fraction=2"),
        ("method.group.anchors=boundry", "Did you mean boundary?"),
        ("method.base=scan", "method 'scan' does not serve here; use one of: byol, moco, propos, simsiam"),
        ("method=3", "should be a section with a name, one of: boosted, byol"),
        ("backbone.name=resnet50", "resnet18"),
    ],
)
def test_a_wrong_setting_of_a_plug_in_has_its_dotted_key(setting, message):
    with pytest.raises(RecipeError) as refused:
        recipe.load("digits", [setting])
    assert message in str(refused.value)


def test_a_part_that_is_left_out_has_its_dotted_key():
    with pytest.raises(RecipeError, match=r"method\.base is missing\."):
        recipe.check({"backbone": {"name": "small"}, "method": {"name": "connr"}})


def installed(folder, module="other_package"):
    """A package as an installer leaves it, with an entry point."""
    (folder / f"{module}.py").write_text(METHOD.format(name="other"))
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[connr.methods]\nother = {module}\n")


@pytest.mark.usefixtures("unregistered")
def test_a_method_of_an_installed_package_is_found_by_its_entry_point(tmp_path, monkeypatch):
    installed(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert METHODS["other"].__module__ == "other_package"
    assert "other" in list(METHODS)
    assert recipe.load("digits", ["method={name: other, width: 5}"]).method.width == 5


@pytest.mark.usefixtures("unregistered")
def test_a_package_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    installed(tmp_path)
    (tmp_path / "other_package.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"the method 'other' of package other_package cannot be imported .*no_such_module"):
        METHODS["other"]


@pytest.mark.usefixtures("unregistered")
def test_a_file_is_a_plug_in(tmp_path, monkeypatch):
    monkeypatch.setenv("CONNR_PLUGINS", "")  # put back afterwards
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(METHOD.format(name="mine"))
    short = ["method=mine", "train.epochs=1", "train.batch_size=64", "backbone.width=4", "kmeans.restarts=1"]
    done = connr("--plugin", "mine.py", "fit", "digits", "--out", "run", "--quiet", *(f"--set={each}" for each in short))
    assert (tmp_path / "run" / "assignments.csv").is_file(), done.output
    assert isinstance(METHODS["mine"].Config(), MethodConfig)


@pytest.mark.usefixtures("unregistered")
def test_a_file_that_is_no_plug_in_is_refused(tmp_path, monkeypatch):
    for name, content in (("gone.py", None), ("broken.py", "1 / 0\n")):
        if content:
            (tmp_path / name).write_text(content)
        monkeypatch.setenv("CONNR_PLUGINS", str(tmp_path / name))
        with pytest.raises(InputError, match=rf"the plug-in .*{name} cannot be imported"):
            METHODS["whatever"]
