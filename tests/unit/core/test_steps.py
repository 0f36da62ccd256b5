from __future__ import annotations

import pytest

from ravesvc.core.steps import TRANSITIONS, Step, Steps


def steps_at(step: Step) -> Steps:
    """A mesh, "m", that has come to a step by way of others."""
    ways = {Step.STARTING: [Step.START_PENDING], Step.STOP_FAILED: [Step.STOPPING]}
    steps = Steps()
    for each in [*ways.get(step, []), step]:
        if each is not Step.IDLE:
            steps.enter("m", each)
    return steps


@pytest.mark.parametrize("before", Step)
@pytest.mark.parametrize("after", Step)
def test_a_step_follows_as_the_table_says(before: Step, after: Step) -> None:
    steps = steps_at(before)
    if after in TRANSITIONS[before]:
        steps.enter("m", after)
        assert steps["m"] is after
    else:
        with pytest.raises(AssertionError, match=rf"mesh m: {after.name} must not follow {before.name}"):
            steps.enter("m", after)
        assert steps["m"] is before


@pytest.mark.parametrize("step", Step)
def test_every_step_leads_back_to_the_first_one(step: Step) -> None:
    reached = {step}
    for _ in Step:
        reached |= {after for each in reached for after in TRANSITIONS[each]}
    assert Step.IDLE in reached


def test_nothing_else_begins_while_a_step_is_under_way() -> None:
    free = {step for step in Step if not steps_at(step).is_busy("m")}
    assert free == {Step.IDLE, Step.STOP_FAILED}
    assert {step for step in Step if steps_at(step).busy == {"m"}} == {*Step} - free


def test_a_mesh_is_starting_from_the_decision_until_the_start_is_over() -> None:
    assert {step for step in Step if steps_at(step).starting} == {Step.START_PENDING, Step.STARTING}
    assert steps_at(Step.STARTING).starting == {"m"}


def test_another_mesh_is_no_part_of_it() -> None:
    steps = steps_at(Step.STOPPING)
    assert steps["n"] is Step.IDLE
    steps.enter("n", Step.EXAMINING)
    assert steps["m"] is Step.STOPPING
