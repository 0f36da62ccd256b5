"""What the service knows of one mesh as `ravectl show` prints it: a label and words for each property. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ravesvc.ctl.ui.output import date_column

# By the name of the property of org.ravesvc.Rave1.Mesh, in the order of the lines.
PROPERTY_LABELS = {
    "Id": "Mesh",
    "Title": "Title",
    "State": "State",
    "Reason": "Reason",
    "Healthy": "Healthy",
    "Users": "Users",
    "SinceTimestamp": "Disconnected since",
    "Invited": "Invited",
    "Server": "Server",
    "Unit": "Unit",
    "MainPID": "Process",
    "Restarts": "Automatic restarts",
    "Outdated": "Outdated",
    "Debug": "Debug logging",
}
# The same for a mesh that is only blocked, by the key in the answer to Explain; that lacks Id.
BLOCK_LABELS = {
    "Id": "Mesh",
    "Title": "Title",
    "State": "State",
    "BlockReason": "Reason",
    "BlockDetail": "Detail",
    "BlockActor": "Blocked by",
    "BlockSinceTimestamp": "Blocked since",
    "NextRetryTimestamp": "Next try",
    "Listed": "Listed",
}
_NONE = "-"
# The states in which a process answers, or should.
_RUNNING = ("connected", "disconnected", "unhealthy")
# The states in which there is no process, and what was last known of users and memory no longer holds.
WITHOUT_PROCESS = ("blocked", "held", "stopped", "failed")


def words(values: Mapping[str, object], labels: Mapping[str, str]) -> list[tuple[str, str]]:
    """Label and words of each value that has a label, in the order of the labels."""
    if values.get("State") == "connected":
        labels = {**labels, "SinceTimestamp": "Connected since"}
    times = {
        name: each for name in labels if name.endswith("Timestamp") and isinstance(each := values.get(name), int)
    }
    dates = dict(zip(times, date_column(list(times.values())), strict=True))
    return [(label, dates.get(name) or _words(name, values)) for name, label in labels.items() if name in values]


def _words(name: str, values: Mapping[str, object]) -> str:
    value = values[name]
    # On the bus a mesh counts as healthy when it has no process that could answer, or has just got one.
    if (name == "Healthy" and values.get("State") not in _RUNNING) or (name == "MainPID" and not value):
        return _NONE
    if name == "Users" and values.get("State") in WITHOUT_PROCESS:
        return _NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or _NONE
