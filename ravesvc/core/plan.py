"""Decides for every mesh whether its bot is to be started, stopped, kept or left out, and why. No I/O.

The reconciler carries the decisions out, and `ravectl plan` shows them, so an operator sees what will happen next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum

from ravesvc.api.models import Mesh
from ravesvc.blocklist.model import Block
from ravesvc.core.run_state import RunPhase, RunState

_NO_RUN = RunState()
ALONE = "the bot left because it was alone; it comes back when there is company"


class Action(StrEnum):
    """What to do with one mesh."""

    START = "start"
    STOP = "stop"
    KEEP = "keep"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with one mesh. `reason` says why in words, for the log and for operators."""

    mesh: str
    action: Action
    reason: str


@dataclass(frozen=True, slots=True)
class BotLimits:
    """How many bots may run.

    Attributes:
        total: how many at once; None for no limit.
        per_user: how many in meshes made by the same user; None for no limit. A mesh whose maker Rave does not name
            counts for no user.
        trusted: the ids of the users to whom `per_user` does not apply.
    """

    total: int | None = None
    per_user: int | None = None
    trusted: AbstractSet[int] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanInput:
    """What is known when the plan is made; meshes by their ids.

    Attributes:
        listed: the meshes of the inventory, oldest first; None before the first good round of discovery. Until then
            bots that run are kept and no other is started, but a block still stops a bot.
        missing: listed meshes that the last list lacks. Their bots are kept, but not started.
        unread: listed meshes to which the last round of discovery did not come. Those that have no bot come after
            the others.
        whole: whether a mesh that is not in `listed` is certainly not in Rave's list.
        blocks: the entries of the blocklist that are in force.
        runs: the processes that exist, and those whose end is not forgotten yet.
        starting: the meshes whose start is decided; `runs` may not show it yet.
        resting: the meshes whose process has ended by itself; they wait for a later good round of discovery.
        waiting: the meshes that must not be started now, each with the reason in words. They still count for the
            limits.
        alone: the meshes that the bot has left because it was alone there, and that are still empty.
        limits: how many bots may run. Invited meshes come first, then the oldest. A mesh that takes the place of
            another is started only when the other has stopped.
    """

    listed: Mapping[str, Mesh] | None
    missing: AbstractSet[str] = frozenset()
    unread: AbstractSet[str] = frozenset()
    whole: bool = True
    blocks: Mapping[str, Block]
    runs: Mapping[str, RunState]
    starting: AbstractSet[str] = frozenset()
    resting: AbstractSet[str] = frozenset()
    waiting: Mapping[str, str] = field(default_factory=dict)
    alone: AbstractSet[str] = frozenset()
    limits: BotLimits


def plan(known: PlanInput) -> tuple[Decision, ...]:
    """Decide for every mesh that is listed or has a process."""
    listed, runs, limits = known.listed or {}, known.runs, known.limits
    idle = {mesh for mesh in known.unread if not runs.get(mesh, _NO_RUN).present}
    order = sorted(listed, key=lambda mesh: (not listed[mesh].invited, mesh in idle))
    order += sorted(runs.keys() - listed.keys())
    # Processes that exist count for the limit until they are gone, also those that are stopping.
    present = len({mesh for mesh, run in runs.items() if run.present} | known.starting)
    decisions = []
    wanted = 0
    made: Counter[int] = Counter()
    for mesh in order:
        run = runs.get(mesh, _NO_RUN)
        if block := known.blocks.get(mesh):
            decision = _unwanted(mesh, run, block.describe())
        elif known.listed is None:
            decision = _undecided(mesh, run, "discovery has not answered yet")
        elif mesh not in listed and not known.whole:
            decision = _undecided(mesh, run, "discovery has not read its whole list yet")
        elif mesh not in listed:
            decision = _unwanted(mesh, run, "discovery does not list it any more")
        elif mesh in known.alone and not run.present:
            decision = Decision(mesh, Action.SKIP, ALONE)
        elif mesh in known.missing and not run.present:
            decision = Decision(mesh, Action.SKIP, "the last list of discovery lacks it")
        elif limits.total is not None and wanted >= limits.total:
            decision = _unwanted(mesh, run, f"max_processes ({limits.total}) is reached")
        elif _beyond(listed[mesh], made, limits):
            maker = listed[mesh].originator
            reason = f"max_meshes_per_user ({limits.per_user}) is reached by user {maker}, who has made it"
            decision = _unwanted(mesh, run, reason)
        else:
            wanted += 1
            _count(listed[mesh], made, limits)
            reason = "discovery listed it until lately" if mesh in known.missing else "discovery lists it"
            decision = _wanted(mesh, run, reason)
            if decision.action is Action.START:
                if mesh in known.starting:
                    decision = Decision(mesh, Action.KEEP, "discovery lists it, and it is about to be started")
                elif mesh in known.waiting:
                    decision = Decision(mesh, Action.SKIP, known.waiting[mesh])
                elif mesh in known.resting:
                    decision = Decision(mesh, Action.SKIP, "it has ended; a later round of discovery starts it again")
                elif limits.total is not None and present >= limits.total:
                    reason = f"max_processes ({limits.total}) is reached until another mesh has stopped"
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
    limits: BotLimits,
) -> bool:
    """Whether discovery may stop reading a list: it has found all meshes that run, and as many as may run.

    Args:
        found: the meshes that were read so far.
        blocks: the entries of the blocklist that are in force.
        running: the meshes that must be found: those that run, and those that the bot has left as empty.
        out: the meshes that must not be joined: the bot has left them, and lists may be late, or they are empty.
        limits: without a total the whole list is needed. `per_user` counts, since otherwise one user could fill the
            beginning of a list.
    """
    if limits.total is None:
        return False
    made: Counter[int] = Counter()
    free = 0
    for mesh in found:
        if mesh.id in blocks or mesh.id in out or _beyond(mesh, made, limits):
            continue
        _count(mesh, made, limits)
        free += 1
    return free >= limits.total and running - blocks.keys() <= {mesh.id for mesh in found}


def _beyond(mesh: Mesh, made: Mapping[int, int], limits: BotLimits) -> bool:
    """Whether the user who has made a mesh has as many bots as they may have."""
    maker = mesh.originator
    return limits.per_user is not None and maker is not None and made.get(maker, 0) >= limits.per_user


def _count(mesh: Mesh, made: Counter[int], limits: BotLimits) -> None:
    if mesh.originator is not None and mesh.originator not in limits.trusted:
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
    """Skip a mesh whose end is not examined yet, as its bot may have been kicked, or whose process is stopping."""
    return Decision(
        mesh, Action.SKIP, "its last run is being examined" if run.phase is RunPhase.ENDED else "it is stopping"
    )
