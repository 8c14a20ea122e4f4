import importlib.util
import re
import runpy
import sys
from pathlib import Path

import lightning
import pytest
import torch
import torch.nn.functional as F
from conftest import unit_rows
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from connr import ConNRLoss
from connr.clustering.boundary import boundary_ratio, keep
from connr.clustering.kmeans import kmeans
from connr.errors import InputError
from connr.integrations.embeddings import extract
from connr.integrations.lightly import ConNRCriterion
from connr.integrations.lightning import ConNRCallback
from connr.integrations.two_stages import TwoStageLoss
from connr.randomness import stream

EXAMPLES = Path(__file__).parent.parent / "examples"
STAND_INS = Path(__file__).parent / "stand_ins"
B, D = 32, 8
QUIET = {
    "accelerator": "cpu",
    "log_every_n_steps": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@pytest.fixture
def batch():
    """Queries, keys, indices of 32 of 50 images, and the features of all 50."""
    queries, keys, features = unit_rows(B, D, 0).float(), unit_rows(B, D, 1).float() * 3, unit_rows(50, D, 2).float() * 2
    return queries.requires_grad_(), keys, torch.randperm(50, generator=torch.Generator().manual_seed(0))[:B], features


def test_stage_1_is_byol_and_asks_for_no_features(batch):
    queries, keys, indices, _ = batch
    loss = TwoStageLoss(4, start=2, end=4)
    for epoch in (0, 1):
        loss.begin(epoch, lambda: pytest.fail("stage 1 needs no features"))
        assert loss(queries, keys, indices).item() == pytest.approx(-2 * F.cosine_similarity(queries, keys).mean().item())
        assert loss.kept == 1.0


@pytest.mark.parametrize("epoch", [2, 3])
def test_stage_2_is_the_pure_functions_put_together(batch, epoch):
    queries, keys, indices, features = batch
    loss = TwoStageLoss(4, start=2, end=4, k=5, k1=6, seed=7)
    loss.begin(epoch, lambda: features)

    clusters = kmeans(F.normalize(features, dim=1), 4, generator=stream(7, "kmeans", epoch))
    ratios = boundary_ratio(F.normalize(keys, dim=1), clusters.centroids, clusters.assignments[indices])
    kept = keep(ratios, 0.8 if epoch == 2 else 0.9)
    expected = ConNRLoss(k=5, k1=6)(queries, keys, kept)
    assert 0.75 < kept.float().mean() < 0.95
    assert loss(queries, keys, indices).item() == expected.item()
    assert loss.kept == pytest.approx(float(kept.float().mean()))


def test_keys_get_no_gradient(batch):
    queries, keys, indices, features = batch
    keys.requires_grad_()
    for loss in (TwoStageLoss(4, 0, 4, k=5), ConNRCriterion(4, 0, 4, k=5), ConNRCriterion(4, 4, 4)):
        loss.begin(0, lambda: features)
        loss(queries, keys, indices).backward()
        assert keys.grad is None
        assert queries.grad.abs().sum() > 0


def test_lightlys_scale(batch):
    from lightly.loss import NegativeCosineSimilarity

    queries, keys, indices, features = batch
    criterion, plain = ConNRCriterion(4, 1, 3, k=5), TwoStageLoss(4, 1, 3, k=5)
    assert criterion(queries, keys, indices).item() == NegativeCosineSimilarity()(queries, keys).item()
    for loss in (criterion, plain):
        loss.begin(1, lambda: features)
    assert criterion(queries, keys, indices).item() == pytest.approx(plain(queries, keys, indices).item() / 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((1, 0, 1), "n_clusters=1"), ((4, 3, 2), "start=3 should be between 0 and end=2"), ((4, -1, 2), "start=-1")],
)
def test_bad_numbers_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        TwoStageLoss(*arguments)


def test_fewer_images_than_clusters_are_refused():
    with pytest.raises(InputError, match="n_clusters=10 is more than the 3 images"):
        TwoStageLoss(10, 0, 1).begin(0, lambda: torch.eye(3))


def test_features_are_those_of_evaluation_and_modes_are_put_back():
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    network[1].eval()
    images = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    rows = extract(network, DataLoader(TensorDataset(images, torch.arange(10)), batch_size=3), network)
    assert [module.training for module in network] == [True, False, True]
    torch.testing.assert_close(rows, network.eval()(images).detach())
    torch.testing.assert_close(extract(network, images.split(4), network), rows)
    assert not rows.requires_grad


def test_the_callback_refuses_a_shuffling_loader_and_a_module_without_features():
    dataset, criterion = TensorDataset(torch.zeros(4, 2)), TwoStageLoss(2, 0, 1)
    for wrong in ({"shuffle": True}, {"batch_size": 3, "drop_last": True}):
        with pytest.raises(InputError, match="shuffle=False, drop_last=False"):
            ConNRCallback(criterion, DataLoader(dataset, **wrong))
    with pytest.raises(InputError, match="LightningModule needs a method target_features"):
        ConNRCallback(criterion, DataLoader(dataset)).setup(lightning.Trainer(**QUIET), lightning.LightningModule(), "fit")


def run_example(monkeypatch, capsys, name, *arguments):
    """The example's own main, in this process so that annotations are checked; returns its names and what it printed."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    names = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    names["main"]()
    return names, capsys.readouterr().out


def accuracies(printed):
    return [float(acc) for acc in re.findall(r"ACC (0\.\d+)", printed)]


def test_the_example_with_a_loop_of_ones_own(monkeypatch, capsys):
    _, printed = run_example(monkeypatch, capsys, "own_loop", "--epochs", "4", "--start", "2")
    assert accuracies(printed)[0] > 0.3  # chance is 0.1


def test_the_example_with_lightly_shares_its_stage_1(monkeypatch, capsys, tmp_path):
    short = ("--epochs", "3", "--every", "1")
    names, printed = run_example(
        monkeypatch, capsys, "lightly_byol", *short, "--start", "2", "--figure", str(tmp_path / "f.png")
    )
    assert len(accuracies(printed)) == 2
    assert min(accuracies(printed)) > 0.3
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    args = names["parser"]().parse_args([*short, "--start", "2"])
    byol, connr = (names["train"](args, 0, connr) for connr in (False, True))
    assert byol[:2] == connr[:2]
    assert byol[2] != connr[2]


@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::DeprecationWarning", "ignore::FutureWarning")
class TestLightning:
    def test_the_example(self, monkeypatch, capsys):
        _, printed = run_example(monkeypatch, capsys, "lightning_byol", "--epochs", "4", "--start", "2")
        assert accuracies(printed)[0] > 0.3

    def test_clusters_are_those_of_the_target_before_each_epoch_of_stage_2(self, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["lightning_byol"])
        names = runpy.run_path(str(EXAMPLES / "lightning_byol.py"))
        dataset = TensorDataset(torch.randn(64, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(64))
        plain, criterion = DataLoader(dataset, batch_size=50), TwoStageLoss(3, 1, 3, k=5, k1=5)
        module, seen, logged = names["BYOL"](criterion), [], []

        class Watch(lightning.Callback):
            def on_train_epoch_start(self, trainer, pl_module):  # after ConNRCallback's
                rows = F.normalize(extract(pl_module.target, dataset.tensors[0].split(50), pl_module), dim=1)
                expected = kmeans(rows, 3, generator=stream(0, "kmeans", trainer.current_epoch))
                seen.append(criterion.clusters and torch.equal(criterion.clusters.assignments, expected.assignments))

            def on_train_end(self, trainer, _):
                logged.append(trainer.callback_metrics)

        trainer = lightning.Trainer(max_epochs=3, callbacks=[ConNRCallback(criterion, plain), Watch()], **QUIET)
        trainer.fit(module, DataLoader(dataset, batch_size=32, shuffle=True))
        assert seen == [None, True, True]
        assert logged[0]["connr/inertia"] == pytest.approx(criterion.clusters.inertia)
        assert 0.8 <= logged[0]["connr/kept"] <= 1


@pytest.fixture
def solo_learn(monkeypatch):
    """solo-learn where it is installed; else the stand-in, because its pins do not install beside this project's."""
    if importlib.util.find_spec("solo") is None:
        monkeypatch.syspath_prepend(STAND_INS)
    from solo import methods

    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))
    yield methods
    for name in [name for name in sys.modules if name.split(".")[0] == "solo"]:
        del sys.modules[name]


@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::DeprecationWarning", "ignore::FutureWarning")
class TestSolo:
    @pytest.mark.usefixtures("solo_learn")
    def test_the_example(self, monkeypatch, capsys):
        _, printed = run_example(monkeypatch, capsys, "solo_byol", "--epochs", "4", "--start", "2")
        assert accuracies(printed)[0] > 0.3

    def method(self, solo_learn, **settings):
        from connr.integrations import solo

        given = solo.register(**{"n_clusters": 3, "start": 1, "end": 3, "k": 5, "k1": 5, **settings})
        assert solo_learn.METHODS["connr_byol"] is given
        names = runpy.run_path(str(EXAMPLES / "solo_byol.py"))
        return given(names["config"](3)), names["TwoViews"]

    def test_stage_1_is_its_byol_less_a_constant_and_stage_2_clusters_the_latest_features(self, solo_learn, monkeypatch):
        module, TwoViews = self.method(solo_learn)
        byol = solo_learn.BYOL(module.cfg)
        byol.load_state_dict(module.state_dict(), strict=False)
        images = torch.rand(70, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        loader = DataLoader(TwoViews(images, torch.arange(70) % 10), batch_size=32, shuffle=True, drop_last=True)
        begun, stage_1 = [], []
        begin = module.criterion.begin
        monkeypatch.setattr(module.criterion, "begin", lambda epoch, features: (begun.append(epoch), begin(epoch, features)))
        monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
        step = module.training_step

        def both(batch, batch_idx):
            loss = step(batch, batch_idx)
            if module.current_epoch == 0 and batch_idx == 0:
                stage_1.append((loss.item(), byol.training_step(batch, 0).item() - 4))
            return loss

        monkeypatch.setattr(module, "training_step", both)
        lightning.Trainer(max_epochs=2, **QUIET).fit(module, loader)
        assert begun == [0, 1]
        assert stage_1[0][0] == pytest.approx(stage_1[0][1], rel=1e-5)
        assert module.latest.shape == (70, 64)
        assert 64 <= int((~module.latest.isnan().any(dim=1)).sum()) <= 70
        assert module.criterion.clusters.assignments.shape == (70,)
        assert module._features().isfinite().all()

    def test_the_released_outputs_without_p_and_z_serve_as_well(self, solo_learn, monkeypatch):
        """solo-learn 1.0.2: features only, heads applied by the method."""
        module, TwoViews = self.method(solo_learn, start=1)
        new, monkey = solo_learn.BaseMomentumMethod.training_step, ("p", "z", "momentum_z")
        images = torch.rand(32, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        batch = next(iter(DataLoader(TwoViews(images, torch.arange(32) % 10), batch_size=32)))
        monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
        monkeypatch.setattr(type(module), "_remember", lambda *_: None)
        now = module.training_step(batch, 0)
        old = lambda self, *a: {key: value for key, value in new(self, *a).items() if key not in monkey}  # noqa: E731
        monkeypatch.setattr(solo_learn.BaseMomentumMethod, "training_step", old)
        assert module.training_step(batch, 0).item() == pytest.approx(now.item(), rel=1e-5)

    def test_a_checkpoint_holds_the_features(self, solo_learn):
        module, _ = self.method(solo_learn)
        with pytest.raises(InputError, match="no features to cluster yet"):
            module._features()
        module.latest, checkpoint = torch.arange(10.0).view(5, 2), {}
        module.on_save_checkpoint(checkpoint)
        again, _ = self.method(solo_learn)
        again.on_load_checkpoint(checkpoint)
        assert torch.equal(again.latest, module.latest)

    def test_settings_are_refused_before_any_data_is_opened(self, solo_learn):
        for wrong, message in (({"start": 0}, "start=0 should be at least 1"), ({"n_clusters": 1}, "n_clusters=1")):
            with pytest.raises(InputError, match=message):
                self.method(solo_learn, **wrong)


@pytest.mark.skipif(importlib.util.find_spec("solo") is not None, reason="solo-learn is installed")
def test_without_solo_learn_there_is_one_clear_error():
    from connr.integrations import solo

    with pytest.raises(InputError, match="solo-learn cannot be imported"):
        solo.register(10, 1, 2)
