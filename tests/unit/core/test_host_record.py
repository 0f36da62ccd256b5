"""Which of two hosts has the account, by a record that a fake store keeps."""

from __future__ import annotations

import asyncio
import re
import uuid
from pathlib import Path

import pytest

from ravesvc.core import host_record
from ravesvc.core.host_record import HostRecord, this_host
from ravesvc.store.model import Host
from tests.unit.conftest import until
from tests.unit.fake_store import DOWN, FakeStore

HERE, THERE, ELSEWHERE = (Host(id=name, name=name) for name in ("here", "there", "elsewhere"))


class Site:
    """The record as two hosts see it."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.changes = 0
        self.here = HostRecord(self.store, HERE, self._changed, leave_s=0.01)  # type: ignore[arg-type]
        self.there = HostRecord(self.store, THERE, lambda: None)  # type: ignore[arg-type]

    def _changed(self) -> None:
        self.changes += 1


async def test_the_first_has_it_and_the_second_says_who() -> None:
    site = Site()
    assert await site.there.look()
    assert site.there.obstacle is None
    for _ in range(2):
        assert await site.here.look()
    assert site.changes == 1
    assert site.here.other == THERE
    assert str(site.here.obstacle) == ("this account already runs on host there (ravectl takeover moves it here)")
    await site.there.release()
    await site.here.look()
    assert (site.here.obstacle, site.changes) == (None, 2)


async def test_a_host_releases_only_what_it_has() -> None:
    site = Site()
    await site.there.look()
    await site.here.look()
    await site.here.release()
    assert site.store.holder == THERE


async def test_taking_over_waits_for_the_bots_of_the_other_host() -> None:
    site = Site()
    assert await site.here.take_over() == "", "nobody else has it"
    await site.there.look()
    site.store.holder = THERE
    await site.here.look()
    assert await site.here.take_over() == "there"
    assert site.store.holder == HERE
    assert site.here.other is None
    assert "moves here from host there" in str(site.here.obstacle)
    await site.here.look()
    assert site.here.obstacle, "a beat does not shorten it"
    await until(lambda: site.here.obstacle is None)
    await site.there.look()
    assert site.there.other == HERE


async def test_another_takes_it_back_before_the_bots_have_started() -> None:
    site = Site()
    site.store.holder = THERE
    await site.here.look()
    await site.here.take_over()
    site.store.holder = ELSEWHERE
    await site.here.look()
    await asyncio.sleep(0.02)
    assert "already runs on host elsewhere" in str(site.here.obstacle)


async def test_a_store_that_is_away_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    site.store.failure = DOWN
    assert not await site.here.look()
    assert site.here.obstacle is None, "the service starts as ever"
    await site.here.release()
    monkeypatch.setattr(host_record, "BEAT_S", 0.005)
    monkeypatch.setattr(host_record, "_RETRY_S", 0.005)
    looking = asyncio.create_task(site.here.run())
    site.store.holder = THERE
    site.store.failure = None
    await until(lambda: site.here.other == THERE)
    site.store.failure = DOWN
    await asyncio.sleep(0.02)
    assert site.here.other == THERE
    site.store.failure = None
    site.store.holder = None
    await until(lambda: site.here.other is None)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


def test_the_id_of_a_machine_is_not_its_machine_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "machine-id"
    monkeypatch.setattr(host_record, "_MACHINE_ID", file)
    machine = uuid.uuid4().hex
    file.write_text(machine + "\n")
    first = this_host()
    assert re.fullmatch("[0-9a-f]{32}", first.id)
    assert first.id != machine
    assert this_host() == first
    assert this_host("-single").id == f"{first.id}-single"
    file.write_text(uuid.uuid4().hex)
    assert this_host().id != first.id
    for text in ("uninitialized", ""):
        file.write_text(text)
        assert this_host().id == this_host().id
