import math

import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connr.schedules import linear_fraction, target_momentum, warmup_cosine


@given(st.integers(0, 30), st.integers(0, 20), st.integers(0, 20), st.floats(0.1, 1), st.floats(0.1, 1))
def test_fraction_is_the_oracle(epoch, start, length, initial, final):
    end = start + length
    expected = oracles.linear_fraction(epoch, start, end, initial, final)
    assert linear_fraction(epoch, start, end, initial, final) == pytest.approx(expected)


def test_fraction_of_the_paper():
    assert [round(linear_fraction(t, 800, 1000), 3) for t in (800, 850, 900, 1000)] == [0.8, 0.85, 0.9, 1.0]


def test_learning_rate_rises_to_one_and_falls_to_nothing():
    factors = [warmup_cosine(step, 1000, 50) for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 50)
    assert max(factors) == factors[49] == factors[50] == 1
    assert factors[:50] == sorted(factors[:50])
    assert factors[50:] == sorted(factors[50:], reverse=True)
    assert factors[525] == pytest.approx(0.5)
    assert 0 < factors[-1] < 1e-5


def test_momentum_rises_from_its_start_to_one():
    momenta = [target_momentum(step / 100, 0.98) for step in range(101)]
    assert momenta[0] == pytest.approx(0.98)
    assert momenta[50] == pytest.approx(0.99)
    assert momenta[100] == 1
    assert momenta == sorted(momenta)


def test_a_cosine_over_all_steps_ends_above_nothing():
    assert warmup_cosine(999, 1000, 50, reaches_zero=False) == pytest.approx(0.5 * (1 + math.cos(math.pi * 949 / 1000)))
