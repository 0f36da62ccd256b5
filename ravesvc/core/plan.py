"""What should run, what should not, and why: a pure function of what is known.

The same answer drives the fleet and tells an operator what would happen next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from ravesvc.api.models import Mesh
from ravesvc.blocklist.model import Block
from ravesvc.core.run_state import RunPhase, RunState

ALONE = "the bot left because it was alone; it comes back when there is company"


class Action(StrEnum):
    """What to do with one mesh."""

    START = "start"
    STOP = "stop"
    KEEP = "keep"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with one mesh, and why, in words."""

    mesh: str
    action: Action
    reason: str


def plan(
    listed: Mapping[str, Mesh] | None,
    blocks: Mapping[str, Block],
    runs: Mapping[str, RunState],
    limit: int | None,
    resting: AbstractSet[str] = frozenset(),
    starting: AbstractSet[str] = frozenset(),
    missing: AbstractSet[str] = frozenset(),
    held: Mapping[str, str] = MappingProxyType({}),
    unread: AbstractSet[str] = frozenset(),
    *,
    whole: bool = True,
    alone: AbstractSet[str] = frozenset(),
    per_user: int | None = None,
    trusted: AbstractSet[int] = frozenset(),
) -> tuple[Decision, ...]:
    """Decide for every mesh that is listed or has a process.

    Args:
        listed: the meshes that discovery knows, oldest first; None before the first good round, when nobody knows
            what should run: then what runs goes on, and nothing else starts, but a block still stops a mesh.
        blocks: the entries of the blocklist that are in force.
        runs: the processes that there are, and those that have ended and are not forgotten yet.
        limit: how many meshes may run at once; None for no limit. Invited meshes come first, then the oldest. A mesh
            that takes the place of another is started when that has stopped.
        resting: the meshes whose process has ended without being told to, until a later good round of discovery.
        starting: the meshes that are about to be started; `runs` need not show it yet.
        missing: the meshes that are believed though the last list lacks them: they run on, but are not started.
        held: the meshes that are not to be started now, each with the reason in words. They keep their places.
        unread: the meshes that are believed, and that the last list, which was not read to its end, may have or not.
            What was read comes before them.
        alone: the meshes that the bot has left because it was alone there, and that are still empty.
        per_user: how many meshes that one user has made may have a bot; None for no limit. A mesh of which Rave does
            not say who has made it counts for nobody.
        trusted: the users of whom there may be any number.
        whole: whether it is known that what is not listed here is not listed.
    """
    known = listed or {}
    idle = {mesh for mesh in unread if not runs.get(mesh, RunState()).present}
    order = sorted(known, key=lambda mesh: (not known[mesh].invited, mesh in idle))
    order += sorted(runs.keys() - known.keys())
    # What is there already: until it is gone, nothing takes its place.
    present = len({mesh for mesh, run in runs.items() if run.present} | starting)
    decisions = []
    wanted = 0
    made: Counter[int] = Counter()
    for mesh in order:
        run = runs.get(mesh, RunState())
        if block := blocks.get(mesh):
            decision = _unwanted(mesh, run, block.describe())
        elif listed is None:
            decision = _undecided(mesh, run, "discovery has not answered yet")
        elif mesh not in known and not whole:
            decision = _undecided(mesh, run, "discovery has not read its whole list yet")
        elif mesh not in known:
            decision = _unwanted(mesh, run, "discovery does not list it any more")
        elif mesh in alone and not run.present:
            decision = Decision(mesh, Action.SKIP, ALONE)
        elif mesh in missing and not run.present:
            decision = Decision(mesh, Action.SKIP, "the last list of discovery lacks it")
        elif limit is not None and wanted >= limit:
            decision = _unwanted(mesh, run, f"max_processes ({limit}) is reached")
        elif per_user is not None and _beyond(known[mesh], made, per_user):
            reason = f"max_meshes_per_user ({per_user}) is reached by user {known[mesh].originator}, who has made it"
            decision = _unwanted(mesh, run, reason)
        else:
            wanted += 1
            _count(known[mesh], made, trusted)
            decision = _wanted(
                mesh, run, "discovery listed it until lately" if mesh in missing else "discovery lists it"
            )
            if decision.action is Action.START:
                if mesh in starting:
                    decision = Decision(mesh, Action.KEEP, "discovery lists it, and it is about to be started")
                elif mesh in held:
                    decision = Decision(mesh, Action.SKIP, held[mesh])
                elif mesh in resting:
                    decision = Decision(mesh, Action.SKIP, "it has ended; a later round of discovery starts it again")
                elif limit is not None and present >= limit:
                    reason = f"max_processes ({limit}) is reached until another mesh has stopped"
                    decision = Decision(mesh, Action.SKIP, reason)
                else:
                    present += 1
        decisions.append(decision)
    return tuple(decisions)


def enough(
    found: Collection[Mesh],
    blocks: Mapping[str, Block],
    running: AbstractSet[str],
    out: AbstractSet[str],
    limit: int | None,
    per_user: int | None = None,
    trusted: AbstractSet[int] = frozenset(),
) -> bool:
    """Whether the beginning of a list is all that a plan needs: it has what runs, and as many as may run.

    Args:
        found: that beginning.
        blocks: the entries of the blocklist that are in force.
        running: the meshes that run, and may go on, or that the bot waits for.
        out: the meshes that are not to be joined: the bot has left them, and lists may be late, or they are empty.
        limit: how many meshes may run at once; None for no limit, when nothing less than all is enough.
        per_user: how many of those that one user has made; else a single user could fill the beginning of a list.
        trusted: the users of whom there may be any number.
    """
    if limit is None:
        return False
    made: Counter[int] = Counter()
    free = 0
    for mesh in found:
        if mesh.id in blocks or mesh.id in out or (per_user is not None and _beyond(mesh, made, per_user)):
            continue
        _count(mesh, made, trusted)
        free += 1
    return free >= limit and running - blocks.keys() <= {mesh.id for mesh in found}


def _beyond(mesh: Mesh, made: Mapping[int, int], per_user: int) -> bool:
    return mesh.originator is not None and made.get(mesh.originator, 0) >= per_user


def _count(mesh: Mesh, made: Counter[int], trusted: AbstractSet[int]) -> None:
    if mesh.originator is not None and mesh.originator not in trusted:
        made[mesh.originator] += 1


def _wanted(mesh: str, run: RunState, reason: str) -> Decision:
    if run.runs:
        return Decision(mesh, Action.KEEP, f"{reason}, and it runs")
    if run.phase is RunPhase.ABSENT:
        return Decision(mesh, Action.START, reason)
    return _in_between(mesh, run)


def _unwanted(mesh: str, run: RunState, reason: str) -> Decision:
    if run.runs:
        return Decision(mesh, Action.STOP, reason)
    return Decision(mesh, Action.SKIP, reason)


def _undecided(mesh: str, run: RunState, reason: str) -> Decision:
    if run.runs:
        return Decision(mesh, Action.KEEP, f"it runs, and {reason}")
    return Decision(mesh, Action.SKIP, reason)


def _in_between(mesh: str, run: RunState) -> Decision:
    """What has failed must not be started before the parent has learnt why: it may have been kicked."""
    return Decision(
        mesh, Action.SKIP, "its last run is being examined" if run.phase is RunPhase.ENDED else "it is stopping"
    )
