from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ravesvc import names
from ravesvc.bus import Bus, SignalMessage
from ravesvc.common import plugin_files
from ravesvc.core import canary as module
from ravesvc.core.canary import Canary
from ravesvc.core.mesh_state import MeshState
from ravesvc.core.trial import TrialFile
from ravesvc.errors import Code, RaveError
from ravesvc.orchestrator.dbus.canary import CanaryObject
from tests.unit.bus_fakes import connected
from tests.unit.conftest import until
from tests.unit.fake_access import FakeAccessCheck

MESH = "11111111-2222-4333-8444-555555555555"


class Site:
    """The object on a bus, and a caller. There is a new version of one file to try."""

    def __init__(self, directory: Path, service: Bus, caller: Bus) -> None:
        new = directory / "commands.d" / plugin_files.CANARY_DIRECTORY
        new.mkdir(parents=True)
        (new / "greet.py").write_text("new")
        record = MeshState(MESH)
        record.worker.connect(1000.0)
        self.canary = Canary(
            directory / "commands.d",
            TrialFile(directory / "canary.json"),
            {MESH: record},
            reread=self._reread,
            reread_all=self._reread_all,
        )
        self.access = FakeAccessCheck()
        access: Any = self.access
        service.export(names.MANAGER_PATH, CanaryObject(access, self.canary))
        self._service = service.unique_name
        self._caller = caller
        self.finished: list[list[Any]] = []

    async def listen(self) -> None:
        def heard(signal: SignalMessage) -> None:
            self.finished.append(list(signal.body))

        rule = f"type='signal',interface='{names.CANARY_INTERFACE}',member='Finished'"
        await self._caller.match(rule, heard)

    async def call(self, member: str, signature: str = "", *arguments: Any) -> list[Any]:
        where = (self._service, names.MANAGER_PATH, names.CANARY_INTERFACE)
        return await self._caller.call(*where, member, signature, *arguments)

    async def properties(self) -> dict[str, Any]:
        where = (self._service, names.MANAGER_PATH, "org.freedesktop.DBus.Properties")
        (values,) = await self._caller.call(*where, "GetAll", "s", names.CANARY_INTERFACE)
        return dict(values)

    async def _reread(self, mesh: str) -> None:
        """Nobody reads anything."""

    async def _reread_all(self) -> None:
        """Nobody reads anything."""


async def test_a_trial_is_shown_and_its_end_is_told(bus_address: str, tmp_path: Path) -> None:
    async with connected(bus_address, 2) as (service, caller):
        site = Site(tmp_path, service, caller)
        await site.listen()
        none = {"State": "none", "Files": [], "Meshes": [], "Began": 0, "Ends": 0, "Reason": ""}
        assert await site.properties() == none
        await site.call("Try", "ast", [MESH, MESH], 600_000_000)
        shown = await site.properties()
        assert (shown["State"], shown["Meshes"]) == ("trying", [MESH])
        assert shown["Files"] == [["greet.py", plugin_files.digest(b"new"), ""]]
        assert shown["Ends"] - shown["Began"] == pytest.approx(600_000_000, abs=2)
        await site.call("Withdraw")
        assert await site.properties() == none
        await until(lambda: site.finished == [["none", ""]])


async def test_its_failure_is_told_with_the_reason(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIN_HOLD_S", 0.0)
    async with connected(bus_address, 2) as (service, caller):
        site = Site(tmp_path, service, caller)
        await site.listen()
        await site.call("Try", "ast", [MESH], 600_000_000)
        record = site.canary._records[MESH]
        record.worker.command_errors = (f"{tmp_path}/commands.d/greet.py: the command greet failed: KeyError",)
        site.canary.mesh_changed(record)
        await until(lambda: len(site.finished) == 1)
        ((state, reason),) = site.finished
        assert (state, "the command greet failed: KeyError" in reason) == ("failed", True)
        assert (await site.properties())["Reason"] == reason


async def test_an_id_has_to_be_one(bus_address: str, tmp_path: Path) -> None:
    async with connected(bus_address, 2) as (service, caller):
        site = Site(tmp_path, service, caller)
        with pytest.raises(RaveError) as caught:
            await site.call("Try", "ast", ["../x"], 600_000_000)
        assert caught.value.code is Code.INVALID_ARGUMENT
