"""The health of the service as a monitoring plug-in reports it. Pure; ravectl(1) has the table of conditions.

The form is that of the Monitoring Plugins Development Guidelines: a text, `|`, figures, and an exit status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ravesvc.common.text import count, printable
from ravesvc.ctl.operations.mesh_lookup import MeshRow

# A bot that is out of its room for longer causes a warning.
DISCONNECTED_S = 300

_MAX_TEXT_CHARS = 500
# States of meshes that are not to be connected now.
_IDLE = ("blocked", "held", "stopped", "stopping")
# Blocks that an operator or a room intended; all others are failures.
_INTENDED = frozenset({"kicked", "left", "gone", "held", "operator"})


class Level(IntEnum):
    """The exit statuses of a plug-in."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class HealthVerdict:
    """The exit status, the reason in words, and figures by label."""

    level: Level
    text: str
    figures: Mapping[str, int]

    def line(self) -> str:
        """The one line of a plug-in."""
        # A bar would begin the figures.
        text = printable(self.text.replace("|", "/"), _MAX_TEXT_CHARS)
        figures = " ".join(f"{label}={number}" for label, number in self.figures.items())
        return f"RAVE {self.level.name} - {text}" + (f" | {figures}" if figures else "")


def absent(why: str, bots: int) -> HealthVerdict:
    """There is no service that answers; so many bots run on."""
    return HealthVerdict(Level.CRITICAL, why, {"bots": bots})


def hung(why: str) -> HealthVerdict:
    """The service runs, and does not answer."""
    return HealthVerdict(Level.CRITICAL, why, {})


def unknown(why: str) -> HealthVerdict:
    """There was no service to ask."""
    return HealthVerdict(Level.UNKNOWN, why, {})


def judge(status: Mapping[str, Any], meshes: Sequence[MeshRow], now: float) -> HealthVerdict:
    """The verdict over a service that runs.

    Args:
        status: what GetStatus says.
        meshes: what DescribeMeshes says.
        now: seconds since the epoch.
    """
    # An older service does not say why no mesh is started.
    if "Obstacle" not in status:
        return unknown("the service is of an older version: systemctl restart rave-orchestrator")
    states = [mesh.state for mesh in meshes]
    figures = {
        "meshes": len(meshes),
        "connected": states.count("connected"),
        "unhealthy": states.count("unhealthy"),
        "blocked": states.count("blocked"),
        "held": states.count("held"),
        "outdated": sum(mesh.outdated for mesh in meshes),
    }
    critical, warning = _critical(status, states), _warnings(status, meshes, now)
    if critical:
        return HealthVerdict(Level.CRITICAL, "; ".join([*critical, *warning]), figures)
    if warning:
        return HealthVerdict(Level.WARNING, "; ".join(warning), figures)
    return HealthVerdict(Level.OK, _fine(states), figures)


def _wanted(states: Sequence[str]) -> int:
    """How many meshes should have a connected bot."""
    return sum(state not in _IDLE for state in states)


def _fine(states: Sequence[str]) -> str:
    if wanted := _wanted(states):
        return f"{states.count('connected')} of {count(wanted, 'mesh')} connected"
    if not states:
        return "no mesh is listed"
    return "no bot runs: " + ", ".join(f"{states.count(state)} {state}" for state in _IDLE if state in states)


def _critical(status: Mapping[str, Any], states: Sequence[str]) -> list[str]:
    if status.get("LoginNeeded"):
        return [status["Obstacle"] or "a login is needed, because Rave refuses the session"]
    if status["Obstacle"]:
        return [f"no mesh is started: {status['Obstacle']}"]
    outages = [str(each) for each in status.get("Outages", [])]
    if outages and "connected" not in states:
        return outages
    failed = sum(number for reason, number in status.get("Blocks", {}).items() if reason not in _INTENDED)
    wanted = _wanted(states) + failed
    if wanted and not {"connected", "starting"} & set(states):
        return [f"none of {count(wanted, 'mesh')} is connected"]
    return []


def _warnings(status: Mapping[str, Any], meshes: Sequence[MeshRow], now: float) -> list[str]:
    blocks = status.get("Blocks", {})
    long = sum(mesh.state == "disconnected" and 0 < mesh.since / 1_000_000 < now - DISCONNECTED_S for mesh in meshes)
    counted = {
        "unhealthy": sum(mesh.state == "unhealthy" for mesh in meshes),
        "failed": sum(mesh.state == "failed" for mesh in meshes),
        "waiting to be restarted": sum(mesh.state == "restarting" for mesh in meshes),
        f"disconnected for more than {DISCONNECTED_S // 60} min": long,
        "quarantined after crashes": blocks.get("crashes", 0),
        "could not be reached": blocks.get("connection_failures", 0) + blocks.get("rejected", 0),
        "too large for a bot": blocks.get("too_large", 0),
        "outdated": sum(mesh.outdated for mesh in meshes),
    }
    failures = {
        "discovery fails": status.get("DiscoveryError"),
        "the store can't be used": status.get("StoreError"),
        "the blocklist can't be saved": status.get("BlocklistError"),
        "plugins fail": next(iter(status.get("CommandErrors", [])), ""),
    }
    warnings = [f"{number} {what}" for what, number in counted.items() if number]
    if unshown := status.get("UnshownMessages", 0):
        warnings.append(f"{count(unshown, 'message')} not shown by a server")
    if any(mesh.state == "connected" for mesh in meshes):
        # Else they are critical.
        warnings += [str(each) for each in status.get("Outages", [])]
    warnings += [str(each) for each in status.get("Pauses", [])]
    if held_back := status.get("HeldBack"):
        warnings.append(f"the loss of {count(held_back, 'mesh')} is not believed")
    if not status["Obstacle"]:
        warnings += [f"{what}: {why}" for what, why in failures.items() if why]
        if not status.get("LastDiscoveryTimestamp") and not status.get("DiscoveryError"):
            warnings.append("no discovery yet")
    return warnings
