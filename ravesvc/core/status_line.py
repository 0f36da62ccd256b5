"""The service in one line, as `systemctl status` and the property `Status` say it, and a summary of it. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from ravesvc.api.refusal import IDENTITY_REFUSALS
from ravesvc.common import dates
from ravesvc.common.text import count
from ravesvc.core.account import nothing_starts
from ravesvc.errors import Code, RaveError

# Said in words of their own, not as a failure of discovery.
_ACCOUNT_REFUSALS = (Code.UNAUTHORIZED, *IDENTITY_REFUSALS)
# Kicks within so many seconds are one event when there are so many of them.
_KICKED_AT_ONCE_S = 10.0
_LEAST_KICKS = 3
# Of one kind.
_MAX_SENTENCES = 3
# The order in which states are counted: trouble first.
_STATES = (
    "unhealthy",
    "failed",
    "disconnected",
    "restarting",
    "starting",
    "stopping",
    "connected",
    "stopped",
    "held",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the line is made of.

    Attributes:
        states: of all meshes, in a word each.
        obstacle: why there can't be a round of discovery, and no mesh is started; None if there can.
        waiting_for: what is asked of Rave, in a sentence, as long as it has not told once which meshes there are.
        session_refused: Rave refuses the session.
        session_proven: Rave has taken the session before, with the same signature.
        identity_refused: why no login would help: Rave refuses the client identity, or our clock.
        discovery_error: why the last round failed; None when it was good.
        stale_since: seconds since the epoch up to which the list of meshes is known; means nothing without an error.
        kicks: when bots were kicked from meshes that are still blocked for it, in seconds since the epoch.
        outages: what most meshes fail by, for no fault of their own, a sentence each.
        pauses: that Rave asks for, a sentence each.
        list_too_long: what is to be said of a list that is too long to be read, or empty.
        losses_held_back: how many meshes the last list lacks that are not believed to be gone.
        blocklist_unsaved: why the blocklist could not be saved.
        store_error: why the store can't be used.
        unshown: how many messages of bots have had no echo.
        command_errors: what is wrong with plugins, a sentence each.
        config_note: what an operator should know of rave.yaml, in a sentence.
    """

    states: Sequence[str] = ()
    obstacle: RaveError | None = None
    waiting_for: str = ""
    session_refused: bool = False
    session_proven: bool = True
    identity_refused: RaveError | None = None
    discovery_error: RaveError | None = None
    stale_since: float = 0.0
    kicks: Sequence[float] = ()
    outages: Sequence[str] = ()
    pauses: Sequence[str] = ()
    list_too_long: str = ""
    losses_held_back: int = 0
    blocklist_unsaved: RaveError | None = None
    store_error: RaveError | None = None
    unshown: int = 0
    command_errors: Sequence[str] = ()
    config_note: str = ""


def status_line(now: Situation) -> str:
    """What there is to say, the most important first."""
    return _joined([summary(now), _commands(now.command_errors), now.config_note])


def summary(now: Situation) -> str:
    """The same without plugins and rave.yaml, for a reader who shows each error of a plugin on a line of its own."""
    said = [
        _nothing_starts(now),
        # A round that has failed says more.
        "" if now.discovery_error else now.waiting_for,
        _meshes(now),
        _kicks(now.kicks),
        _some(now.outages),
        _some(now.pauses),
        f"the blocklist can't be saved: {now.blocklist_unsaved.message}" if now.blocklist_unsaved else "",
        f"the store can't be used, changes are refused: {now.store_error.message}" if now.store_error else "",
        f"messages that were not shown by a server: {now.unshown}" if now.unshown else "",
    ]
    return _joined(said)


def _joined(sentences: Sequence[str]) -> str:
    return "; ".join(sentence for sentence in sentences if sentence)


def _nothing_starts(now: Situation) -> str:
    # Where Rave refuses the identity, a login fails as well.
    if now.identity_refused and (now.obstacle is None or now.obstacle.code is Code.LOGIN_NEEDED):
        return nothing_starts(now.identity_refused)
    if now.obstacle:
        return nothing_starts(now.obstacle)
    if not now.session_refused:
        return ""
    # A server that gives no reason refuses a wrong signature in the same way.
    more = "" if now.session_proven else ", or client_identity.request_hash_key is wrong"
    return f"a login is needed: run ravectl login (Rave refuses the session{more})"


def _meshes(now: Situation) -> str:
    """How many there are, in which states, and how far that is to be trusted."""
    if now.obstacle and not now.states:
        return ""
    parts = [count(len(now.states), "mesh")]
    # Any other state, such as blocked, comes last.
    ordered = dict.fromkeys([*_STATES, *sorted(set(now.states))])
    parts += [f"{now.states.count(state)} {state}" for state in ordered if state in now.states]
    since = dates.in_sentence(now.stale_since)
    error = now.discovery_error
    paused = now.pauses and error and error.code is Code.RATE_LIMITED
    if error and error.code not in _ACCOUNT_REFUSALS and not now.obstacle and not paused:
        parts.append(f"discovery fails, stale since {since}: {error.message}")
    if now.list_too_long:
        parts.append(now.list_too_long)
    if now.losses_held_back:
        hint = "ravectl discover --confirm-losses"
        parts.append(f"the loss of {now.losses_held_back} is not believed, stale since {since} ({hint})")
    return ", ".join(parts)


def _kicks(kicks: Sequence[float]) -> str:
    """Kicks from many meshes at once, which no room has decided by itself."""
    times = sorted(kicks)
    most, began = 0, 0.0
    for position, first in enumerate(times):
        number = bisect.bisect_right(times, first + _KICKED_AT_ONCE_S) - position
        if number > most:
            most, began = number, first
    if most < _LEAST_KICKS:
        return ""
    undo = "if by mistake: ravectl blocklist remove --reason kicked, then invite the bot again"
    return f"kicked from {count(most, 'mesh')} at once on {dates.in_sentence(began)} ({undo})"


def _some(sentences: Sequence[str]) -> str:
    """The first of them, and how many more there are: a line has an end."""
    more = len(sentences) - _MAX_SENTENCES
    return "; ".join([*sentences[:_MAX_SENTENCES], *([f"and {more} more like that"] if more > 0 else [])])


def _commands(errors: Sequence[str]) -> str:
    if not errors:
        return ""
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"plugins fail: {errors[0]}{more}"
