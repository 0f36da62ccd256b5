"""Some of the simulated year, with the same seeds each time; `make simulate` runs more of it."""

from __future__ import annotations

import pytest

from ravesvc.core.inventory import Inventory
from tests.simulation.promises import Promise
from tests.simulation.run import simulate


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (3, 4, 5))])
def test_no_promise_is_broken_within_hours(seed: int) -> None:
    report = simulate(seed, 12.0)
    assert not report.failure, report.text


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(101, 105))
def test_no_promise_is_broken_within_weeks(seed: int) -> None:
    report = simulate(seed, 120.0)
    assert not report.failure, report.text


def test_the_same_seed_gives_the_same_events() -> None:
    first, again, other = simulate(7, 4.0), simulate(7, 4.0), simulate(8, 4.0)
    assert first.digest == again.digest != other.digest


@pytest.mark.slow
def test_a_promise_that_is_broken_is_told_with_the_seed_that_breaks_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget_what_is_missing(inventory: Inventory, listed: object) -> None:
        observe(inventory, listed)
        inventory.confirm_losses()

    observe = Inventory.observe
    monkeypatch.setattr(Inventory, "observe", forget_what_is_missing)
    report = next(report for seed in range(1, 20) if (report := simulate(seed, 24.0)).failure)
    assert report.failure
    assert report.failure.promise in (Promise.SUDDEN_LOSS, Promise.UNRELATED)
    assert f"make simulate SEED={report.seed} HOURS=24\n" in report.text
    assert "the service orders: stop" in report.text
