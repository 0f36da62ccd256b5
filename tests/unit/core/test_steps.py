from __future__ import annotations

import pytest

from ravesvc.core.steps import TRANSITIONS, MeshStep, Steps


def steps_at(step: MeshStep) -> Steps:
    """A mesh, "m", that has come to a step by way of others."""
    ways = {MeshStep.STARTING: [MeshStep.START_PENDING], MeshStep.STOP_FAILED: [MeshStep.STOPPING]}
    steps = Steps()
    for each in [*ways.get(step, []), step]:
        if each is not MeshStep.IDLE:
            steps.enter("m", each)
    return steps


@pytest.mark.parametrize("before", MeshStep)
@pytest.mark.parametrize("after", MeshStep)
def test_a_step_follows_as_the_table_says(before: MeshStep, after: MeshStep) -> None:
    steps = steps_at(before)
    if after in TRANSITIONS[before]:
        steps.enter("m", after)
        assert steps["m"] is after
    else:
        with pytest.raises(AssertionError, match=rf"mesh m: {after.name} must not follow {before.name}"):
            steps.enter("m", after)
        assert steps["m"] is before


@pytest.mark.parametrize("step", MeshStep)
def test_every_step_leads_back_to_the_first_one(step: MeshStep) -> None:
    reached = {step}
    for _ in MeshStep:
        reached |= {after for each in reached for after in TRANSITIONS[each]}
    assert MeshStep.IDLE in reached


def test_nothing_else_begins_while_a_step_is_under_way() -> None:
    free = {step for step in MeshStep if not steps_at(step).is_busy("m")}
    assert free == {MeshStep.IDLE, MeshStep.STOP_FAILED}
    assert {step for step in MeshStep if steps_at(step).busy == {"m"}} == {*MeshStep} - free


def test_a_mesh_is_starting_from_the_decision_until_the_start_is_over() -> None:
    assert {step for step in MeshStep if steps_at(step).starting} == {MeshStep.START_PENDING, MeshStep.STARTING}
    assert steps_at(MeshStep.STARTING).starting == {"m"}


def test_another_mesh_is_no_part_of_it() -> None:
    steps = steps_at(MeshStep.STOPPING)
    assert steps["n"] is MeshStep.IDLE
    steps.enter("n", MeshStep.EXAMINING)
    assert steps["m"] is MeshStep.STOPPING
