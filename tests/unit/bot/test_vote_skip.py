from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.bot.vote_skip import SkipVotes, needed

ANN, BOB, CEM, DAN, EVA = range(2, 7)


@pytest.mark.parametrize(
    ("present", "percent", "votes"),
    [(1, 50, 2), (2, 50, 2), (3, 50, 2), (4, 50, 3), (5, 50, 3), (6, 50, 4), (5, 20, 2), (5, 100, 5), (3, 0, 2)],
)
def test_more_than_the_threshold_is_needed_and_at_least_two(present: int, percent: int, votes: int) -> None:
    assert needed(present, percent) == votes


def test_a_user_has_one_vote_and_takes_it_along() -> None:
    present = frozenset({ANN, BOB, CEM, DAN})
    votes = SkipVotes().add(ANN).add(ANN).add(BOB)
    assert votes.of_present(present) == 2
    assert not votes.enough(present)
    assert votes.enough(present - {CEM})
    assert not votes.enough(present - {ANN, CEM})


@pytest.mark.slow
@given(st.sets(st.integers(2, 12)), st.sets(st.integers(2, 12)), st.integers(0, 100))
def test_no_minority_skips_by_default_and_all_together_always_can(
    voters: set[int], present: set[int], percent: int
) -> None:
    votes, there = SkipVotes(frozenset(voters)), frozenset(present)
    if votes.enough(there):
        assert len(voters & present) * 2 > len(present)
    if len(present) >= 2:
        assert SkipVotes(there).enough(there, percent)
