"""scikit-learn's own checks of an estimator. They know only rows of numbers, so they see ConNR through rows made images."""

import numpy as np
import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from connr import ConNR, recipe

SMALL = (
    "clusters=3",
    "train.epochs=1",
    "train.group_from=1",
    "train.batch_size=16",
    "train.evaluate_every=0",
    "kmeans.restarts=2",
    "backbone.width=4",
    "framework.hidden=8",
    "framework.out=4",
)
ONE_CLUSTER = (
    "check_dont_overwrite_parameters",
    "check_methods_subset_invariance",
    "check_fit2d_1feature",
    "check_fit2d_predict1d",
)
EXPECTED = {
    **dict.fromkeys(ONE_CLUSTER, "asks for one cluster; a boundary needs two"),
    "check_do_not_raise_errors_in_init_or_set_params": "annotations are checked while these tests run, and only then",
}
NEED_ROWS = (  # rows of floats [n,f], which are no images [n,h,w]: these run on `OnRows`
    "check_fit_score_takes_y",
    "check_estimators_overwrite_params",
    "check_estimators_fit_returns_self",
    "check_readonly_memmap_input",
    "check_n_features_in_after_fitting",
    "check_positive_only_tag_during_fit",
    "check_estimators_dtypes",
    "check_complex_data",
    "check_dtype_object",
    "check_estimators_empty_data_messages",
    "check_pipeline_consistency",
    "check_estimators_nan_inf",
    "check_estimator_sparse_array",
    "check_estimator_sparse_matrix",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_transformer_data_not_an_array",
    "check_transformer_general",
    "check_clustering",
    "check_methods_sample_order_invariance",
    "check_fit2d_1sample",
    "check_dict_unchanged",
    "check_fit_idempotent",
    "check_fit_check_is_fitted",
    "check_n_features_in",
)


class TakesRows(ConNR):
    """ConNR, small, that says it takes 2-D input: the checks run on nothing else."""

    def __init__(self, n_clusters=3, recipe="digits", random_state=0, epochs=1, device="auto", out=None, n_jobs=-1, verbose=0):
        super().__init__(n_clusters, recipe, random_state, epochs, device, out, n_jobs, verbose)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


class OnRows(TakesRows):
    """Each row of numbers becomes an image of 8 x 8 grey levels, over and over."""

    def images(self, X, reset):
        X = validate_data(self, X, reset=reset, ensure_min_samples=2 if reset else 1)
        levels = np.clip(128 + 32 * X, 0, 255).astype(np.uint8)
        return np.stack([np.resize(row, (8, 8)) for row in levels])

    def fit(self, X, y=None):
        return super().fit(self.images(X, True))

    def predict(self, X):
        check_is_fitted(self)
        return super().predict(self.images(X, False))

    def transform(self, X):
        check_is_fitted(self)
        return super().transform(self.images(X, False))

    def score(self, X, y=None):
        return super().score(self.images(X, False), np.zeros(len(X), int) if y is None else y)


@pytest.fixture(scope="module", autouse=True)
def _small_recipe():
    """`digits` is a network of a few hundred weights in here, so that a fit takes a twentieth of a second."""
    small = recipe.load("digits", SMALL)
    with pytest.MonkeyPatch.context() as patch:
        whole = recipe.load
        patch.setattr(recipe, "load", lambda name, *a, **k: whole(small if name == "digits" else name, *a, **k))
        yield


@parametrize_with_checks([OnRows()], expected_failed_checks=lambda _: EXPECTED, xfail_strict=True)
def test_scikit_learns_checks_hold(estimator, check):
    check(estimator)


def test_the_rest_hold_without_the_detour():
    """ConNR itself passes whatever hands it no rows, and nothing else is missing from the list."""
    failed = set()
    for estimator, check in estimator_checks_generator(TakesRows()):
        name = getattr(check, "func", check).__name__
        try:
            check(estimator)
        except pytest.skip.Exception:
            continue
        except Exception as fault:
            if type(fault).__name__ != "SkipTest":
                failed.add(name)
    assert failed == {*NEED_ROWS, *EXPECTED}


def test_tags_say_what_goes_in():
    tags = ConNR().__sklearn_tags__()
    assert (tags.input_tags.two_d_array, tags.input_tags.three_d_array) == (False, True)
    assert tags.estimator_type == "clusterer"
