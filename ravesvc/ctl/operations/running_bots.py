"""The service and its bots by systemd, for when the service itself does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ravesvc import names
from ravesvc.errors import RaveError

if TYPE_CHECKING:
    from ravesvc.bus import Bus

_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = f"{_NAME}.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
# systemd answers at once unless it is busy with something else.
_TIMEOUT_S = 5.0


class RunningBot(NamedTuple):
    """A unit of a mesh that systemd has: the mesh's id, the state in systemd's words, and what the bot says."""

    mesh: str
    state: str
    status: str


async def service_unit(bus: Bus) -> dict[str, Any]:
    """The properties of the service's unit; empty if systemd does not answer."""
    try:
        (path,) = await _call(bus, _PATH, _MANAGER, "LoadUnit", "s", names.ORCHESTRATOR_UNIT)
        (unit,) = await _call(bus, path, _PROPERTIES, "GetAll", "s", f"{_NAME}.Unit")
        (service,) = await _call(bus, path, _PROPERTIES, "GetAll", "s", f"{_NAME}.Service")
    except RaveError:
        return {}
    return {**unit, **service}


async def bots(bus: Bus) -> list[RunningBot]:
    """The bots that run, with or without the service, by mesh id; empty if systemd does not answer."""
    try:
        (units,) = await _call(bus, _PATH, _MANAGER, "ListUnitsByPatterns", "asas", [], [names.MESH_UNIT_PATTERN])
        found = [await _bot(bus, unit) for unit in units if unit[3] in ("active", "activating", "deactivating")]
    except RaveError:
        return []
    return sorted(bot for bot in found if bot)


async def _bot(bus: Bus, unit: list[Any]) -> RunningBot | None:
    name, _description, _load, active, sub, _following, path, *_job = unit
    mesh = names.mesh_of_unit(name)
    if mesh is None:
        return None
    (status,) = await _call(bus, path, _PROPERTIES, "Get", "ss", f"{_NAME}.Service", "StatusText")
    return RunningBot(mesh, f"{active} ({sub})", str(status))


async def _call(bus: Bus, path: str, interface: str, member: str, signature: str, *args: Any) -> list[Any]:
    return await bus.call(_NAME, path, interface, member, signature, *args, timeout=_TIMEOUT_S)
