"""ConNR as scikit-learn users know it: fit, predict, transform, score. Each default is the recipe's, as the command's is."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from connr import metrics, recipe, run
from connr.data import ImageSet, open_images
from connr.model import Model
from connr.recipe import Recipe
from connr.run_folder import RunFolder

Images = str | Path | NDArray[Any]


class ConNR(ClusterMixin, TransformerMixin, BaseEstimator):
    """Clusters images.

    Args:
        n_clusters: K >= 2; None takes the recipe's own.
        recipe: a name of `connr recipes list`, a YAML file, or a `Recipe`; `photos` as in `connr fit FOLDER`.
        random_state: seed of everything random; None takes the recipe's own.
        epochs: instead of the recipe's; the two stages keep their shares.
        device: `auto`, `cpu`, `cuda` or `mps`.
        out: a folder for the run: checkpoints, assignments.csv, the model; None keeps everything in memory.

    Attributes:
        labels_: (n) the cluster of each image.
        cluster_centers_: (K d) centroids of the L2-normalised features.
        history_: a record per epoch: loss, and where clusters were found their sizes and inertia.
        n_features_out_: d.

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
        recipe: str | Recipe = "photos",
        random_state: int | None = 0,
        epochs: int | None = None,
        device: str = "auto",
        out: str | Path | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.recipe = recipe
        self.random_state = random_state
        self.epochs = epochs
        self.device = device
        self.out = out

    def fit(self, X: Images, y: object = None) -> "ConNR":
        """Trains on X and clusters it.

        Args:
            X: uint8 [n,h,w] or [n,h,w,c]; or a folder of pictures, an `.npz`, `digits`.
            y: ignored.

        Raises:
            InputError: X or a parameter cannot be used; a ValueError.
        """
        settings = [f"train.epochs={self.epochs}"] if self.epochs is not None else []
        r = recipe.load(self.recipe, settings, clusters=self.n_clusters, seed=self.random_state)
        folder = RunFolder(self.out) if self.out is not None else None
        images = open_images(
            X,
            r.data.size,
            r.data.channels,
            labels_from_folders=r.data.labels_from_folders,
            leave_out=folder.path if folder else None,
        )
        fitted = run.fit(r, images, folder, device=self.device)
        self.labels_ = fitted.assigned.clusters.numpy()
        self.history_ = fitted.history
        return self._adopt(fitted.recipe, fitted.model)

    def predict(self, X: Images) -> NDArray[np.int64]:
        """(n) the nearest centroid of each image of X."""
        check_is_fitted(self, "model_")
        return self.model_.assign(self._open(X).images).clusters.numpy()

    def transform(self, X: Images) -> NDArray[np.float32]:
        """(n d) L2-normalised features of X."""
        check_is_fitted(self, "model_")
        return self.model_.transform(self._open(X).images).cpu().numpy()

    def fit_predict(self, X: Images, y: object = None) -> NDArray[np.int64]:
        """`fit(X).labels_`."""
        return self.fit(X, y).labels_

    def score(self, X: Images, y: ArrayLike) -> float:
        """Clustering accuracy of `predict(X)` against labels y; -1 is unlabelled."""
        return metrics.accuracy(np.asarray(y), self.predict(X))

    def save(self, path: str | Path) -> None:
        """Writes model.safetensors and config.json into a new or empty folder.

        Raises:
            InputError: the folder holds a run or other files.
        """
        check_is_fitted(self, "model_")
        folder = RunFolder(path)
        folder.check(resume=False)
        folder.path.mkdir(parents=True, exist_ok=True)
        run.save_model(self.recipe_, self.model_, folder)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> "ConNR":
        """A model from `save` or from a run folder, to predict with; `labels_` and `history_` stay with the fit."""
        r, model = run.load_model(RunFolder(path), device)
        return cls(r.clusters, r, r.seed, device=device)._adopt(r, model)

    def _adopt(self, r: Recipe, model: Model) -> "ConNR":
        self.recipe_, self.model_ = r, model
        self.cluster_centers_ = model.centroids.cpu().numpy()
        self.n_features_out_ = self.cluster_centers_.shape[1]
        return self

    def _open(self, X: Images) -> ImageSet:
        return open_images(X, self.recipe_.data.size, self.recipe_.data.channels)
