"""Every method as scikit-learn users know it: fit, predict, transform, score. Defaults are the recipe's."""

import warnings
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from connr import metrics, networks, pretrained, runs
from connr.clustering.assigners import Centroids
from connr.data import ImageSet, holds_features, open_for
from connr.errors import InputError
from connr.model import Model
from connr.printable import printable
from connr.recipe import Recipe
from connr.report.progress import ProgressBar
from connr.run_folder import RunFolder
from connr.torch_settings import computing

Images = Any  # see `DeepClusterer.fit`
Estimator = TypeVar("Estimator", bound="DeepClusterer")  # not `Self`, which beartype does not take in the tests


class DeepClusterer(ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin, BaseEstimator):
    """Clusters images by any method.

    Args:
        method: a name of `connr methods`, or of a method of your own that is imported; None is that of the recipe.
        n_clusters: K >= 2; None takes the recipe's own.
        recipe: a name of `connr recipes list`, a YAML file, or a `Recipe`; None is `features` for rows of numbers and
            `photos` for images, as in `connr fit DATA`.
        settings: changes to the recipe, as `--set` of the command: `{"method.temperature": 0.5, "train.batch_size": 128}`.
        random_state: seed of everything random; None or a `RandomState` draws a new one at each fit, kept in `recipe_.seed`.
        epochs: instead of the recipe's; all phases keep their shares.
        device: `auto`, `cpu`, `cuda` or `mps`.
        out: a folder for the run: checkpoints, assignments.csv, the model; None keeps everything in memory.
        n_jobs: threads that decode pictures and that torch computes with on the CPU, for the time of a call; -1 for all that
            torch is set to use, None for 1 unless `joblib.parallel_config` says otherwise; at most 4 a core, or 64. In a child
            that was forked after a call, torch computes with one.
        verbose: above 0 shows the progress of a fit on standard error.
        devices: processes that share each batch, one to a GPU; in a script, call `fit` below `if __name__ == "__main__":`.
        backbone: a network of your own for images, (b c h w) -> (b f), standardised by its attributes `mean` and `std` if it
            has them; it takes the place of `backbone.model` in a recipe such as `pretrained`.

    Attributes:
        labels_: (n) the cluster of each image.
        cluster_centers_: (K d) centroids of the L2-normalised features; only of methods that assign by centroids.
        inertia_: sum over the images of the squared distance to their centroid; of a head, of the squared 1 - probability.
        n_iter_: epochs trained.
        history_: a record per epoch: loss, and cluster sizes and inertia if clusters were computed.
        names_: n paths below the folder, or indices as text.
        skipped_: files that could not be read, with the reasons.
        n_features_out_: d.
        recipe_, model_: what was run, and the network with its assigner.

        n_features_in_: number of columns of X, only for rows of numbers.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> images = (load_digits().images * 15).astype("uint8")
        >>> model = DeepClusterer("scan", n_clusters=10, recipe="digits", epochs=3).fit(images)
        >>> model.labels_.shape
        (1797,)
    """

    def __init__(
        self,
        method: str | None = None,
        n_clusters: int | None = 10,
        recipe: str | Recipe | None = None,
        settings: Mapping[str, Any] | None = None,
        random_state: int | np.integer | np.random.RandomState | None = 0,
        epochs: int | None = None,
        device: str = "auto",
        out: str | Path | None = None,
        n_jobs: int | None = -1,
        verbose: int = 0,
        devices: int = 1,
        backbone: nn.Module | None = None,
    ) -> None:
        self.method = method
        self.n_clusters = n_clusters
        self.recipe = recipe
        self.settings = settings
        self.random_state = random_state
        self.epochs = epochs
        self.device = device
        self.out = out
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.devices = devices
        self.backbone = backbone

    def fit(self: Estimator, X: Images, y: object = None) -> Estimator:
        """Trains on X and clusters it.

        Args:
            X: uint8 [n,h,w] or [n,h,w,c]; or a folder of pictures, an `.npz`, a name (`digits`, `cifar10:ROOT`, `hf:NAME`); or
                a data set of torch, torchvision or Hugging Face, or a list (see `connr.data.dataset`). Or rows of numbers
                [n,d]: an array, a data frame, an `.npz` with `features`, an `.npy` or a Parquet file.
            y: ignored.

        Raises:
            InputError: X or a parameter cannot be used; a ValueError.
        """
        settings = self._settings()
        data = self._rows(X, reset=True) if _is_table(X) else X
        name = self.recipe if self.recipe is not None else ("features" if holds_features(data) else "photos")
        r = pretrained.chosen(name, settings, self.backbone, clusters=self.n_clusters, seed=self._seed())
        if r.clusters is None:
            raise InputError(f"n_clusters=None takes the number of the recipe, and {name} has none; give n_clusters.")
        folder = RunFolder(self.out) if self.out is not None else None
        if folder:
            folder.check(resume=False, way_out="choose another out")
        with computing(self.n_jobs) as threads, ProgressBar(Console(stderr=True), quiet=not self.verbose) as bar:
            images = _opened(data, r, threads, r.data.labels_from_folders, folder)
            fitted = runs.fit(
                r, images, folder, device=self.device, devices=self.devices, callback=bar, backbone=self.backbone
            )
        self.labels_ = fitted.assigned.clusters.numpy()
        self.inertia_ = float(fitted.assigned.distances.double().square().sum())
        self.history_, self.n_iter_ = fitted.history, len(fitted.history)
        self.names_, self.skipped_ = images.names, images.skipped
        return self._adopt(fitted.recipe, fitted.model)

    def predict(self, X: Images) -> NDArray[np.int64]:
        """(n) the nearest centroid of each image of X."""
        check_is_fitted(self, "model_")
        with computing(self.n_jobs) as threads:
            return self.model_.assign(self._opened(X, threads).images).clusters.numpy()

    def transform(self, X: Images) -> NDArray[np.float32]:
        """(n d) L2-normalised features of X."""
        check_is_fitted(self, "model_")
        with computing(self.n_jobs) as threads:
            return self.model_.transform(self._opened(X, threads).images).cpu().numpy()

    def fit_predict(self, X: Images, y: object = None) -> NDArray[np.int64]:
        """`fit(X).labels_`."""
        return self.fit(X, y).labels_

    def score(self, X: Images, y: ArrayLike | None = None) -> float:
        """Clustering accuracy of `predict(X)` against labels y, or against the labels of X.

        Args:
            X: as for `predict`.
            y: (n) numbers, of which those below 0 are unlabelled; or texts, of which empty ones and None are.

        Raises:
            InputError: nothing is labelled, or y is not one label for each image.
        """
        check_is_fitted(self, "model_")
        with computing(self.n_jobs) as threads:
            images = self._opened(X, threads)
            clusters = self.model_.assign(images.images).clusters
        if y is None and not images.labelled:
            raise InputError("y is not given and X has no labels: there is nothing to score against.")
        return metrics.accuracy(images.labels if y is None else _labels(y, len(clusters)), clusters)

    def save(self, path: str | Path) -> None:
        """Writes model.safetensors and config.json into a new or empty folder.

        Raises:
            InputError: the folder holds a run or other files.
        """
        check_is_fitted(self, "model_")
        folder = RunFolder(path)
        folder.check(resume=False, way_out="choose another folder")
        folder.path.mkdir(parents=True, exist_ok=True)
        runs.save_model(self.recipe_, self.model_, folder)

    @classmethod
    def load(cls: type[Estimator], path: str | Path, device: str = "auto", backbone: nn.Module | None = None) -> Estimator:
        """A model from `save`, `connr export` or a run folder, to predict with.

        `backbone` is the network that it was fitted with, where that was one of your own. What is of the fitted images, as
        `labels_` and `history_`, is not in it; a pickle keeps that too, but runs code.
        """
        with computing(-1):
            r, model = runs.load_model(RunFolder(path), device, backbone)
        found = cls(n_clusters=r.clusters, recipe=r, random_state=r.seed, device=device, backbone=backbone)
        return found._adopt(r, model)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = True, True
        return tags

    @property
    def _n_features_out(self) -> int:  # used by scikit-learn's get_feature_names_out and set_output
        return int(self.n_features_out_)

    def _settings(self) -> list[str]:
        """Changes to the recipe as the command writes them; those of named parameters first, so that `settings` may add."""
        found = [f"method={self.method}"] if self.method is not None else []
        found += [f"train.epochs={self.epochs}"] if self.epochs is not None else []
        return found + [setting(key, value) for key, value in (self.settings or {}).items()]

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _rows(self, X: Any, reset: bool) -> NDArray[np.float32]:
        """Validates a table like scikit-learn: finite real numbers; at least two rows in fit; later the same columns."""
        found: NDArray[Any] = validate_data(self, X, reset=reset, ensure_min_samples=2 if reset else 1)
        if not reset or np.abs(found).max() <= np.finfo(np.float32).max:
            return found.astype(np.float32)
        raise InputError("X holds numbers that single precision cannot hold.")

    def _opened(self, X: Images, threads: int | None) -> ImageSet:
        """Opens X in the format of the fit."""
        if self.recipe_.takes_features and not isinstance(X, str | Path):
            return _opened(self._rows(X, reset=False), self.recipe_, threads)
        return _opened(X, self.recipe_, threads, for_views=False)

    def _adopt(self: Estimator, r: Recipe, model: Model) -> Estimator:
        self.recipe_, self.model_ = r, model
        if isinstance(model.assigner, Centroids):
            self.cluster_centers_ = model.assigner.centroids.cpu().numpy()
        self.n_features_out_ = _width(r, model)
        if r.takes_features:
            self.n_features_in_ = r.data.features
        return self


class ConNR(DeepClusterer):
    """Clusters images by ConNR, or by whatever method the recipe has.

    Args:
        n_clusters: K >= 2; None takes the recipe's own.
        recipe: a name of `connr recipes list`, a YAML file, or a `Recipe`; None is `features` for rows of numbers and
            `photos` for images, as in `connr fit DATA`.
        random_state: seed of everything random; None or a `RandomState` draws a new one at each fit, kept in `recipe_.seed`.
        epochs: instead of the recipe's; all phases keep their shares.
        device: `auto`, `cpu`, `cuda` or `mps`.
        out: a folder for the run: checkpoints, assignments.csv, the model; None keeps everything in memory.
        n_jobs: threads that decode pictures and that torch computes with on the CPU, for the time of a call; -1 for all that
            torch is set to use, None for 1 unless `joblib.parallel_config` says otherwise; at most 4 a core, or 64. In a child
            that was forked after a call, torch computes with one.
        verbose: above 0 shows the progress of a fit on standard error.
        devices: processes that share each batch, one to a GPU; in a script, call `fit` below `if __name__ == "__main__":`.
        backbone: a network of your own for images, (b c h w) -> (b f), standardised by its attributes `mean` and `std` if it
            has them; it takes the place of `backbone.model` in a recipe such as `pretrained`.

    Attributes:
        labels_: (n) the cluster of each image.
        cluster_centers_: (K d) centroids of the L2-normalised features.
        inertia_: sum over the images of the squared distance to their centroid.
        n_iter_: epochs trained.
        history_: a record per epoch: loss, and where clusters were found their sizes and inertia.
        names_: n paths below the folder, or indices as text.
        skipped_: files that could not be read, and why.
        n_features_out_: d.
        recipe_, model_: what was run, and the network with its centroids.

        n_features_in_: of rows of numbers, how many. Images of any size come in, and are brought to that of the recipe.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> images = (load_digits().images * 15).astype("uint8")
        >>> model = ConNR(n_clusters=10, recipe="digits", epochs=2).fit(images)
        >>> model.labels_.shape
        (1797,)
    """

    def __init__(
        self,
        n_clusters: int | None = 10,
        recipe: str | Recipe | None = None,
        random_state: int | np.integer | np.random.RandomState | None = 0,
        epochs: int | None = None,
        device: str = "auto",
        out: str | Path | None = None,
        n_jobs: int | None = -1,
        verbose: int = 0,
        devices: int = 1,
        backbone: nn.Module | None = None,
    ) -> None:
        super().__init__(
            n_clusters=n_clusters,
            recipe=recipe,
            random_state=random_state,
            epochs=epochs,
            device=device,
            out=out,
            n_jobs=n_jobs,
            verbose=verbose,
            devices=devices,
            backbone=backbone,
        )


def _opened(
    X: Images,
    r: Recipe,
    threads: int | None,
    labels_from_folders: bool = False,
    folder: RunFolder | None = None,
    for_views: bool = True,
) -> ImageSet:
    """Opens X for a recipe and warns of unreadable files. `folder`, of the run, is ignored if it is inside X."""
    images = open_for(
        r,
        X,
        labels_from_folders=labels_from_folders,
        leave_out=folder.path if folder else None,
        threads=threads,
        cache=folder.cache if folder else None,
        for_views=for_views,
    )
    if images.skipped:
        first = ", ".join(printable(skipped.path) for skipped in images.skipped[:3])
        warnings.warn(f"{len(images.skipped)} pictures cannot be read and have no row: {first}, ...", stacklevel=3)
    return images


def setting(key: str, value: Any) -> str:
    """`key=value` as the command takes it.

    Raises:
        InputError: the value is no number, text, list or mapping.
    """
    try:
        plain = value.item() if isinstance(value, np.generic) else value
        text = yaml.safe_dump(plain, default_flow_style=True, width=10**6)
    except yaml.YAMLError as fault:
        raise InputError(
            f"settings[{key!r}] is a {type(value).__name__}, should be a number, text, list or mapping."
        ) from fault
    return f"{key}={text.strip().removesuffix('...').strip()}"


def _labels(y: ArrayLike, n: int) -> NDArray[np.int64]:
    """(n) numbers of classes, -1 where there is none.

    Raises:
        InputError: y is not one label for each image, or holds numbers that are not whole.
    """
    given = np.asarray(y)
    if given.shape != (n,):
        raise InputError(f"y has shape {list(given.shape)}, should be one label for each of the {n} images.")
    if given.dtype.kind in "OUST":
        texts = ["" if each is None else str(each) for each in given.tolist()]
        classes = {text: at for at, text in enumerate(sorted(set(texts) - {""}))} | {"": -1}
        return np.array([classes[text] for text in texts])
    if given.dtype.kind not in "biuf" or not np.equal(given, np.floor(given)).all():
        raise InputError(f"y holds {given.dtype}, should be whole numbers or texts.")
    return given.astype(np.int64)


def _is_table(X: Any) -> bool:
    """Whether X is a table of numbers: at most two dimensions, or sparse; scikit-learn then validates it."""
    if isinstance(X, str | Path):
        return False
    if isinstance(X, list):
        return bool(X) and isinstance(X[0], list | np.ndarray) and _numbers(X[0])
    return issparse(X) or (hasattr(X, "__array__") and not hasattr(X, "convert") and np.asarray(X).ndim <= 2)


def _numbers(row: Any) -> bool:
    """A row of plain numbers, not an image or (image, label)."""
    return np.ndim(row) == 1 and len(row) > 0 and all(isinstance(value, Real) for value in row)


def _width(r: Recipe, model: Model) -> int:
    """The number of features of a model."""
    if isinstance(model.assigner, Centroids):
        return model.assigner.centroids.shape[1]
    shape = (r.data.features or 0,) if r.takes_features else (r.data.channels, r.data.size, r.data.size)
    return networks.features_out(model.representation, *shape)
