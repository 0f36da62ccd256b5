"""What ravectl asks systemd, of one that is played on a bus."""

from __future__ import annotations

from typing import Any, ClassVar

from ravesvc import names
from ravesvc.bus import Bus, Call, Interface, allow_all, method
from ravesvc.ctl.operations import running_bots
from ravesvc.ctl.operations.running_bots import RunningBot
from tests.unit.bus_fakes import connected
from tests.unit.fake_systemd import MESH, OTHER, ROOT


class Unit(Interface):
    interface = "org.freedesktop.systemd1.Unit"
    properties: ClassVar = {"LoadState": "s", "ActiveState": "s"}


class Service(Interface):
    interface = "org.freedesktop.systemd1.Service"
    properties: ClassVar = {"Result": "s", "StatusText": "s"}


class Manager(Interface):
    """Has the service's unit and those of two bots, one of which has ended."""

    interface = "org.freedesktop.systemd1.Manager"

    def __init__(self, bus: Bus) -> None:
        super().__init__(allow_all)
        self.patterns: list[str] = []
        for name, text in ("parent", "Stopping"), ("first", "Connected"), ("second", ""):
            unit, service = Unit(allow_all), Service(allow_all)
            unit.set(LoadState="loaded", ActiveState="failed")
            service.set(Result="exit-code", StatusText=text)
            bus.export(f"{ROOT}/unit/{name}", unit, service)

    @method(takes={"name": "s"}, returns={"unit": "o"})
    async def load_unit(self, call: Call, name: str) -> str:
        assert name == names.ORCHESTRATOR_UNIT
        return f"{ROOT}/unit/parent"

    @method(takes={"states": "as", "patterns": "as"}, returns={"units": "a(ssssssouso)"})
    async def list_units_by_patterns(self, call: Call, states: list[str], patterns: list[str]) -> list[Any]:
        self.patterns = patterns
        return [
            [unit, "", "loaded", active, sub, "", f"{ROOT}/unit/{name}", 0, "", "/"]
            for name, unit, active, sub in (
                ("first", names.mesh_unit(OTHER), "active", "running"),
                ("second", names.mesh_unit(MESH), "failed", "failed"),
                ("second", "rave-mesh@odd.service", "active", "running"),
                ("second", names.mesh_unit(MESH), "activating", "auto-restart"),
            )
        ]


async def test_the_unit_and_the_bots_that_run(bus_address: str) -> None:
    async with connected(bus_address, 2) as (bus, caller):
        assert await running_bots.service_unit(caller) == {}, "nobody tells"
        assert await running_bots.bots(caller) == []
        manager = Manager(bus)
        bus.export(ROOT, manager)
        await bus.request_name("org.freedesktop.systemd1")
        unit = await running_bots.service_unit(caller)
        expected = {
            "LoadState": "loaded",
            "ActiveState": "failed",
            "Result": "exit-code",
            "StatusText": "Stopping",
        }
        assert unit == expected
        assert await running_bots.bots(caller) == [
            RunningBot(MESH, "activating (auto-restart)", ""),
            RunningBot(OTHER, "active (running)", "Connected"),
        ]
        assert manager.patterns == [names.MESH_UNIT_PATTERN]
