"""Phases over the epochs of a run."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connr.engine import Timeline
from connr.methods import Optimizer, Phase

ADAM = Optimizer("adam", 1e-3)


def bounds(timeline):
    return [(each.phase.name, each.first_epoch, each.end_epoch) for each in timeline.segments]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5).filter(lambda shares: sum(shares) > 0.01), st.integers(1, 60))
def test_every_epoch_and_step_is_in_one_segment(shares, epochs):
    sizes = [None, 7, 500, 16, 100]
    phases = [Phase(str(at), share, batch_size=sizes[at]) for at, share in enumerate(shares)]
    timeline = Timeline(phases, epochs, 100, 30)
    assert timeline.segments[0].first_epoch == 0
    assert timeline.segments[-1].end_epoch == epochs
    assert all(one.end_epoch == other.first_epoch for one, other in pairwise(timeline.segments))
    places = []
    for epoch in range(epochs):
        segment = timeline.segment(epoch)
        assert segment.first_epoch <= epoch < segment.end_epoch
        assert segment.batch_size == min(sizes[int(segment.phase.name)] or 30, 100)
        assert segment.steps_per_epoch == 100 // segment.batch_size >= 1
        places += [timeline.position(epoch, step) for step in range(segment.steps_per_epoch)]
    assert places == list(range(timeline.steps))
    assert timeline.position(epochs, 0) == timeline.steps
    for at, phase in enumerate(phases):  # within half an epoch of its share, at either end
        length = sum(s.end_epoch - s.first_epoch for s in timeline.segments if s.phase is phase)
        assert abs(length - shares[at] / sum(shares) * epochs) <= 1 + 1e-9


@pytest.mark.parametrize(
    ("shares", "epochs", "expected"),
    [
        ((1, 1), 5, [("0", 0, 2), ("1", 2, 5)]),  # 2.5 is rounded to the even number
        ((0.8, 0.2), 1000, [("0", 0, 800), ("1", 800, 1000)]),
        ((2, 1, 1), 8, [("0", 0, 4), ("1", 4, 6), ("2", 6, 8)]),
        ((0.9, 0.1), 4, [("0", 0, 4)]),  # less than half an epoch is none
        ((0, 1), 4, [("1", 0, 4)]),
        ((1, 0), 4, [("0", 0, 4)]),
        ((1, 0, 1), 4, [("0", 0, 2), ("2", 2, 4)]),
        ((1, 1, 1, 1), 2, [("1", 0, 1), ("2", 1, 2)]),
    ],
)
def test_shares_are_rounded_at_their_ends(shares, epochs, expected):
    assert bounds(Timeline([Phase(str(at), share) for at, share in enumerate(shares)], epochs, 100, 10)) == expected


@pytest.mark.parametrize("shares", [(0.0, 0.0), (1.0, -0.5), (float("nan"), 1.0), ()])
def test_shares_that_divide_nothing_are_refused(shares):
    with pytest.raises(ValueError, match="share"):
        Timeline([Phase(str(at), share) for at, share in enumerate(shares)], 4, 100, 10)


def test_one_phase_may_come_twice():
    again = Phase("again")
    assert bounds(Timeline([again, Phase("between"), again], 6, 100, 10)) == [
        ("again", 0, 2),
        ("between", 2, 4),
        ("again", 4, 6),
    ]


def test_an_optimiser_spans_the_neighbouring_phases_that_have_none_of_their_own():
    own = {2, 5}
    phases = [Phase(str(at), optimizer=ADAM if at in own else None, batch_size=10 + at) for at in range(6)]
    timeline = Timeline(phases, 12, 100, 10)
    spans = [[int(each.phase.name) for each in timeline.optimizer_span(segment)] for segment in timeline.segments]
    assert spans == [[0, 1], [0, 1], [2], [3, 4], [3, 4], [5]]
    assert [segment.first_step for segment in timeline.segments] == [0, 20, 38, 54, 68, 82]


def test_a_phase_that_is_left_out_does_not_part_a_span():
    phases = [Phase("one"), Phase("never", 0.0, optimizer=ADAM), Phase("two")]
    timeline = Timeline(phases, 4, 100, 10)
    assert [each.phase.name for each in timeline.optimizer_span(timeline.segments[0])] == ["one", "two"]
