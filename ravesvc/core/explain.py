"""Why a mesh runs or does not: discovery, blocklist, unit, last exit and next try in one answer. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ravesvc.blocklist.model import SERVICE, Block, MeshMemory, Reason
from ravesvc.common import dates
from ravesvc.common.text import count, printable
from ravesvc.core.mesh_state import MeshState
from ravesvc.core.plan import Action, Decision
from ravesvc.core.run_state import RunPhase
from ravesvc.errors import RaveError

_MAX_SENTENCE_CHARS = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplainInput:
    """What there is to know. Times are in microseconds since the epoch, 0 for never.

    `silence` is in seconds; `retry` when a block ends; `discovery_error` why the last round failed; `obstacle` why no
    bot is started at all.
    """

    record: MeshState
    decision: Decision | None
    memory: MeshMemory
    retry: int
    blocked_since: int
    last_discovery: int
    discovery_error: RaveError | None
    outdated: bool
    silence: float
    obstacle: RaveError | None = None


def explain(facts: ExplainInput) -> list[str]:
    """The answer in sentences, the most important first."""
    record = facts.record
    said = [_state(record)]
    if facts.obstacle:
        said.append(f"No bot is started now: {facts.obstacle}.")
    said += _discovery(facts)
    if record.block:
        said.append(_block(record.block, facts.blocked_since))
    if facts.memory.failures:
        failed = count(facts.memory.failures, "failed attempt")
        said.append(f"{failed} since a connection last held: {facts.memory.last_error}.")
    said.append(_unit(record))
    if record.worker.ready and facts.silence > 0:
        said.append(f"Its process answered {facts.silence:.0f} s ago.")
    said += [f"Plugins fail in it: {error}." for error in record.worker.command_errors]
    if record.worker.unshown:
        said.append(_unshown(record.worker.unshown))
    if facts.outdated:
        said.append("Its process runs an older program or other settings: ravectl roll replaces it.")
    said.append(_next(facts))
    return [each for each in said if each]


def details(facts: ExplainInput) -> dict[str, object]:
    """The same for programs."""
    record, decision, memory = facts.record, facts.decision, facts.memory
    block, listed = record.block, record.listed
    return {
        "Title": record.title,
        "State": record.state,
        "Action": decision.action.value if decision else "",
        "Reason": decision.reason if decision else "",
        "Listed": listed is not None and not record.missing,
        "Invited": bool(listed and listed.invited),
        "LastDiscoveryTimestamp": facts.last_discovery,
        "DiscoveryError": str(facts.discovery_error or ""),
        "BlockReason": block.reason.value if block else "",
        "BlockDetail": printable(block.detail, _MAX_SENTENCE_CHARS) if block else "",
        "BlockActor": printable(block.actor, _MAX_SENTENCE_CHARS) if block else "",
        "BlockSinceTimestamp": facts.blocked_since,
        "Blocks": _count(memory.blocks),
        "Quarantines": _count(memory.quarantines),
        "Attempts": _count(memory.failures),
        "LastError": printable(record.worker.last_error or memory.last_error, _MAX_SENTENCE_CHARS),
        "CommandErrors": list(record.worker.command_errors),
        "UnshownMessages": record.worker.unshown,
        "ChatForm": record.worker.chat_form,
        "ActiveState": record.run.active_state,
        "SubState": record.run.sub_state,
        "Restarts": record.run.restarts,
        "LastExit": record.last_exit,
        "SilenceUSec": int(facts.silence * 1_000_000),
        "Outdated": facts.outdated,
        "NextRetryTimestamp": facts.retry,
    }


def _count(number: int) -> int:
    return min(number, 2**32 - 1)


def _on(microseconds: int) -> str:
    return f"on {dates.in_sentence(microseconds / 1_000_000)}"


def _state(record: MeshState) -> str:
    title = f" ({record.title})" if record.title else ""
    why = f": {record.reason}" if record.reason else ""
    return f"Mesh {record.mesh}{title} is {record.state}{why}."


def _block(block: Block, since: int) -> str:
    if block.reason is Reason.HELD:
        return f"It was stopped {_on(since)}, by {block.actor}, and is held until it is started."
    times = f", {count(block.count, 'time')} in a row" if block.count > 1 else ""
    return f"It was put on the blocklist {_on(since)}, by {block.actor}: {block.describe()}{times}."


def _unshown(messages: int) -> str:
    return f"{count(messages, 'message')} not shown by the server, as far as its process can tell: it saw no echo."


def _discovery(facts: ExplainInput) -> list[str]:
    if not facts.last_discovery:
        known = "Discovery has not answered yet."
    elif facts.record.listed is None:
        known = "Discovery does not list it."
    else:
        how = "as an invitation" if facts.record.listed.invited else "as a mesh that is open to the bot"
        if facts.record.missing:
            known = f"Discovery listed it {how}, but its last list, read {_on(facts.last_discovery)}, lacks it."
        elif facts.record.unread:
            read = f"{_on(facts.last_discovery)}, was not read as far as that"
            known = f"Discovery listed it {how}, but its last list, read {read}."
        else:
            known = f"Discovery lists it {how}, last read {_on(facts.last_discovery)}."
    if facts.discovery_error is None:
        return [known]
    return [known, f"Discovery fails now, so what was known goes on: {facts.discovery_error.message}."]


def _unit(record: MeshState) -> str:
    run = record.run
    restarts = f", restarted {count(run.restarts, 'time')}" if run.restarts else ""
    exited = f"; its last process ended with {record.last_exit}" if record.last_exit else ""
    return f"Its unit is {run.active_state} ({run.sub_state}){restarts}{exited}."


def _next(facts: ExplainInput) -> str:
    record, decision = facts.record, facts.decision
    if record.state == "connected":
        return ""
    if record.run.phase is RunPhase.WAITING:
        return "Next: systemd starts it again in a moment."
    if record.block:
        return f"Next: {_end(record, record.block, facts.retry)}."
    if record.state == "unhealthy":
        return "Next: it is restarted."
    if record.run.runs:
        return "Next: its process goes on trying to connect."
    if decision is None:
        return ""
    if decision.action is Action.START:
        return "Next: it is started."
    return f"Next: nothing, because {decision.reason}." if decision.reason != record.reason else ""


def _end(record: MeshState, block: Block, retry: int) -> str:
    """What ends a block; `retry` is when it ends by itself, 0 for never."""
    known = record.listed or record.former
    # Leaving a mesh deletes its invitation. One that is open may be listed all the same.
    by_invitation = known is None or known.invited
    if block.reason is Reason.HELD:
        return f"nothing, until it is started: ravectl start {record.mesh}"
    if not retry:
        again = ", and the bot is invited again" if block.reason is Reason.KICKED and by_invitation else ""
        return f"nothing, until it is unblocked (ravectl blocklist remove {record.mesh}){again}"
    if block.reason is Reason.LEFT and block.actor == SERVICE and by_invitation:
        return "it is started when the bot is invited again"
    if block.reason is Reason.GONE and block.actor == SERVICE:
        return "it is started when discovery lists it again"
    listed = "" if record.listed else ", if discovery lists it then"
    return f"it is tried again {_on(retry)}{listed}"
