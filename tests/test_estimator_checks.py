"""scikit-learn's own checks of an estimator, all of them, on rows of numbers; images cannot be put through them."""

import subprocess
import sys

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from connr import ConNR, recipe

SMALL = (
    "train.group_from=0.5",
    "train.batch_size=16",
    "train.evaluate_every=0",
    "kmeans.restarts=2",
    "backbone.widths=[4]",
    "framework.hidden=8",
    "framework.out=4",
)
EXPECTED = {"check_do_not_raise_errors_in_init_or_set_params": "annotations are checked while these tests run, and only then"}


@pytest.fixture(scope="module", autouse=True)
def _small_recipe():
    """`features` is a network of a few hundred weights in here, so that a fit takes a twentieth of a second."""
    small = recipe.load("features", SMALL)
    with pytest.MonkeyPatch.context() as patch:
        whole = recipe.load
        patch.setattr(recipe, "load", lambda name, *a, **k: whole(small if name == "features" else name, *a, **k))
        yield


@parametrize_with_checks([ConNR(3, epochs=2)], expected_failed_checks=lambda _: EXPECTED, xfail_strict=True)
def test_scikit_learns_checks_hold(estimator, check):
    check(estimator)


@pytest.mark.slow
def test_all_of_them_hold_with_the_recipe_as_it_is_and_no_exception():
    """In a process of its own, where annotations are not checked: the whole of check_estimator, two epochs a fit."""
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from sklearn.utils.estimator_checks import check_estimator\n"
        "from connr import ConNR\n"
        "found = check_estimator(ConNR(3, epochs=2), on_fail='raise', on_skip=None)\n"
        "print(sum(one['status'] == 'passed' for one in found), [one for one in found if one['status'] == 'xfail'])\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    passed, expected = done.stdout.split(" ", 1)
    assert int(passed) > 40
    assert expected.strip() == "[]"


def test_tags_say_what_goes_in():
    tags = ConNR().__sklearn_tags__()
    assert (tags.input_tags.two_d_array, tags.input_tags.three_d_array) == (True, True)
    assert tags.estimator_type == "clusterer"
