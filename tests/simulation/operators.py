"""What operators do, and what they do wrong: with the service, behind its back, and to the file of the blocklist."""

from __future__ import annotations

import json
import math
from collections.abc import Coroutine
from random import Random
from typing import Any

from ravesvc.blocklist.model import Reason
from ravesvc.core.run_state import RunPhase
from ravesvc.errors import RaveError
from tests.simulation.faults import Fault
from tests.simulation.site import Site

_OPERATOR = "alice"
_HOUR = 3600.0


def _mesh(site: Site, rng: Random) -> str:
    return rng.choice(list(site.rave.rooms))


def _try(site: Site, what: str, mesh: str, coroutine: Coroutine[Any, Any, object]) -> None:
    """Have an operator wait for something, which may be refused in words."""

    async def attempt() -> None:
        try:
            await coroutine
        except RaveError as e:
            site.trace(mesh, f"the operator is refused to {what}: {e.code}")

    site.trace(mesh, f"the operator wants to {what}")
    assert site.process
    site.process.spawn(attempt())


def _stop(site: Site, rng: Random) -> None:
    mesh = _mesh(site, rng)
    if site.works and site.parent:
        _try(site, "stop", mesh, site.parent.reconciler.stop_mesh(mesh, _OPERATOR))


def _start(site: Site, rng: Random) -> None:
    if not site.works or not site.parent:
        return
    held = [mesh for mesh, block in site.parent.blocklist.in_force().items() if block.reason is Reason.HELD]
    mesh = rng.choice(held) if held and rng.random() < 0.7 else _mesh(site, rng)
    site.promises.lifted(mesh)
    _try(site, "start", mesh, site.parent.reconciler.start_mesh(mesh, _OPERATOR))


def _restart(site: Site, rng: Random) -> None:
    mesh = _mesh(site, rng)
    if site.works and site.parent:
        site.promises.restart_ordered(mesh)
        _try(site, "restart", mesh, site.parent.reconciler.restart_mesh(mesh))


def _block(site: Site, rng: Random) -> None:
    mesh = _mesh(site, rng)
    if site.works and site.parent:
        seconds = rng.choice([60.0, _HOUR, 9 * _HOUR, math.inf])
        site.trace(mesh, "the operator blocks it")
        site.process_run(lambda parent: parent.blocklist.add(mesh, Reason.OPERATOR, actor=_OPERATOR, seconds=seconds))


def _unblock(site: Site, rng: Random) -> None:
    if not site.works or not site.parent:
        return
    blocked = list(site.parent.blocklist.in_force())
    if blocked:
        site.unblock(rng.choice(blocked))


def _unblock_all(site: Site, rng: Random) -> None:
    if site.works and site.parent:
        for mesh in list(site.parent.blocklist.in_force()):
            site.unblock(mesh)


def _roll(site: Site, rng: Random) -> None:
    if not site.works or site.promises.rolling or not site.parent:
        return
    site.new_edition()
    site.trace("", "the operator has the service restarted by an upgrade, and rolls")
    site.restart_service()
    site.ends_in(120.0, site.roll)


def _confirm(site: Site, rng: Random) -> None:
    if site.works and site.parent and not site.rave.troubles.sudden:
        site.trace("", "the operator confirms the losses")
        site.promises.confirmed()
        site.process_run(lambda parent: parent.discovery.inventory.confirm_losses())


def _stop_by_hand(site: Site, rng: Random) -> None:
    mesh = _mesh(site, rng)
    phase = site.machine.run_of(mesh).phase
    if phase is RunPhase.ABSENT or phase is RunPhase.ENDED:
        return
    site.trace(mesh, "systemctl stop")
    settled = phase is RunPhase.RUNNING and site.works and not site.is_ordered_lately(mesh)
    (site.promises.stopped_by_hand if settled else site.promises.by_hand)(mesh)
    site.machine.stop(mesh, "hand")


def _start_by_hand(site: Site, rng: Random) -> None:
    mesh = _mesh(site, rng)
    site.trace(mesh, "systemctl start")
    site.promises.by_hand(mesh)
    site.machine.start(mesh, "hand")


def _restart_by_hand(site: Site, rng: Random) -> None:
    mesh = _mesh(site, rng)
    site.trace(mesh, "systemctl restart")
    site.promises.by_hand(mesh)
    site.machine.restart(mesh, "hand")


def _reset_failed(site: Site, rng: Random) -> None:
    for mesh in list(site.machine.units):
        site.machine.reset_failed(mesh)


def _edit(site: Site, rng: Random) -> None:
    """An operator opens the file in an editor, and saves it at once, or much later."""
    path = site.blocklist_path
    try:
        top = json.loads(path.read_text())
    except (OSError, ValueError):
        return
    blocks, mesh = top["blockedMeshes"], _mesh(site, rng)
    removed = kick_removed = ""
    opened_at = site.clocks.monotonic()
    match rng.randrange(4):
        case 0:
            # Also in the place of a kick, which is an operator's own business.
            kick_removed = mesh if blocks.get(mesh, {}).get("reason") == "kicked" else ""
            blocks[mesh] = {"meshId": mesh, "reason": "operator", "blockedAt": 0, "blockedUntil": None}
        case 1 | 2 if blocks:
            removed = rng.choice(list(blocks))
            kick_removed = removed if blocks.pop(removed)["reason"] == "kicked" else ""
        case _:
            pass
    text = json.dumps(top)

    def save() -> None:
        site.trace(removed or mesh, "the operator saves an edit of the blocklist")
        if kick_removed:
            site.promises.edited_out(kick_removed, opened_at)
        site.edit(text)

    site.ends_in(rng.choice([0.0, 5.0, 600.0]) * rng.random(), save)


def _damage(site: Site, rng: Random) -> None:
    """An operator makes a mistake in the file, and finds out later."""
    site.trace("", "the operator damages the blocklist")
    site.edit('{"blockedMeshes": ')
    site.ends_in(rng.uniform(60.0, _HOUR), site.restore)


def _remove_file(site: Site, rng: Random) -> None:
    site.blocklist_path.unlink(missing_ok=True)
    site.trace("", "the operator removes the blocklist")
    site.touched()


ACTIONS = (
    Fault("stop", _HOUR, _stop),
    Fault("start", _HOUR / 2, _start),
    Fault("restart", 2 * _HOUR, _restart),
    Fault("block", 2 * _HOUR, _block),
    Fault("unblock", _HOUR / 2, _unblock),
    Fault("unblock all", 12 * _HOUR, _unblock_all),
    Fault("roll", 8 * _HOUR, _roll),
    Fault("confirm losses", 12 * _HOUR, _confirm),
    Fault("stop by hand", 2 * _HOUR, _stop_by_hand),
    Fault("start by hand", 2 * _HOUR, _start_by_hand),
    Fault("restart by hand", 2 * _HOUR, _restart_by_hand),
    Fault("forget failures by hand", 3 * _HOUR, _reset_failed),
    Fault("edit the blocklist", _HOUR, _edit),
    Fault("damage the blocklist", 20 * _HOUR, _damage),
    Fault("remove the blocklist", 40 * _HOUR, _remove_file),
)
