"""The memory of a machine, and how many bots it allows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ravesvc.common import machine
from ravesvc.doctor import checks
from ravesvc.doctor.finding import FindingState

MB = 2**20


@pytest.mark.parametrize(
    ("memory", "bots"),
    [
        (16 * MB, 1),
        (1024 * MB, 24),
        (4096 * MB, 96),
        (24105 * MB, 564),
        (65536 * MB, 1536),
        (2**20 * MB, 2000),
    ],
)
def test_three_quarters_of_the_memory_are_for_bots(memory: int, bots: int) -> None:
    assert machine.bots_that_fit(memory) == bots


@pytest.mark.parametrize("limit", ["max\n", "", "words", None])
def test_without_a_limit_of_a_container_all_the_memory_counts(tmp_path: Path, limit: str | None) -> None:
    file = tmp_path / "memory.max"
    if limit is not None:
        file.write_text(limit)
    assert machine.memory_bytes(file) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_container_has_what_it_is_limited_to(tmp_path: Path) -> None:
    file = tmp_path / "memory.max"
    file.write_text("1048576000\n")
    assert machine.memory_bytes(file) == 1048576000
    file.write_text(f"{2**62}\n")
    assert machine.memory_bytes(file) < 2**62


def test_the_bus_has_a_connection_for_each_bot() -> None:
    policy = Path(__file__).parents[3] / "packaging" / "dbus" / "org.ravesvc.Rave1.conf"
    limit = checks.bus_limit([policy.read_text()])
    assert checks.bus(limit, machine.MAX_BOTS_ON_BUS).state is FindingState.HELD


def test_the_bots_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda: 2048 * MB)
    assert machine.bots_that_fit() == 48
