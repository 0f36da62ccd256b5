"""The blocklist on the bus, beside the manager."""

from __future__ import annotations

import math
from typing import ClassVar

from ravesvc import names
from ravesvc.blocklist.blocklist import Blocklist, await_saved, not_saved_error
from ravesvc.blocklist.model import PERMANENT_REASONS, Block, BlocklistChange, Reason, What
from ravesvc.bus import Call, Interface, method
from ravesvc.common.text import count, printable
from ravesvc.errors import Code, RaveError
from ravesvc.names import PolkitAction
from ravesvc.orchestrator.dbus.polkit import AccessCheck

_MAX_DETAIL_CHARS = 200
# Twenty thousand entries have to fit into a message.
_MAX_TITLE_CHARS = 100
# Microseconds; a hundred years stand for a block without an end.
_MAX_USEC = 100 * 365 * 24 * 3600 * 1_000_000
# Entries in one call: each is announced, and no other call is served meanwhile.
_MAX_ENTRIES = 100


class BlocklistObject(Interface):
    """Which meshes are blocked or held, at /org/ravesvc/Rave1 of org.ravesvc.Rave1.

    Every property changes with a signal. Timestamps are microseconds of CLOCK_REALTIME, durations microseconds. What
    a method changes is safe on disk when it returns. A reason is one of connection_failures, kicked, rejected,
    crashes, too_large, left, gone, held (stopped by an operator) and operator (blocked by one); an actor is service,
    the name of a user, systemctl, or blocklist.json for a user who has edited that file.

    Properties:
        Total: How many entries there are.
        Permanent: How many of them are for ever.
        Temporary: How many of them are for a time.
        Error: Why the file can't be used or saved, or empty. While it can't be used no mesh is joined.

    Signals:
        Blocked: An entry has come, or was replaced; it is on disk.
        Unblocked: An entry has gone: its time was over (the actor is service), or an operator has taken it out.
    """

    interface = names.BLOCKLIST_INTERFACE
    properties: ClassVar = {"Total": "u", "Permanent": "u", "Temporary": "u", "Error": "s"}
    signals: ClassVar = {
        "Blocked": {"id": "s", "reason": "s", "until": "t", "detail": "s", "actor": "s"},
        "Unblocked": {"id": "s", "reason": "s", "actor": "s"},
    }

    def __init__(self, access: AccessCheck, blocklist: Blocklist) -> None:
        super().__init__(access)
        self._access = access
        self._blocklist = blocklist

    @method(returns={"entries": "a(ssttssu)"}, action=PolkitAction.READ)
    async def list_entries(self, call: Call) -> list[tuple[str, str, int, int, str, str, int]]:
        """Id, reason, since, until (0 for ever), detail, actor and count of every entry, the oldest first.

        The count is how often in a row the mesh was in trouble.
        """
        return [(block.mesh, *self._columns(block)) for block in self._oldest_first()]

    @method(returns={"entries": "a(sssttssu)"}, action=PolkitAction.READ)
    async def describe_entries(self, call: Call) -> list[tuple[str, str, str, int, int, str, str, int]]:
        """Of every entry the columns of ListEntries, and after the id the title of the mesh when it was blocked.

        The title is empty if it was not known, and has at most 100 characters.
        """
        return [
            (block.mesh, printable(block.title, _MAX_TITLE_CHARS), *self._columns(block))
            for block in self._oldest_first()
        ]

    @method(returns={"total": "u", "permanent": "u", "temporary": "u"}, action=PolkitAction.READ)
    async def get_stats(self, call: Call) -> tuple[int, int, int]:
        """How many entries there are, for ever and for a time."""
        return self._stats()

    @method(takes={"id": "s"}, returns={"events": "a(tssss)"}, action=PolkitAction.READ)
    async def get_history(self, call: Call, id: str) -> list[tuple[int, str, str, str, str]]:  # noqa: A002
        """The last ten events of a mesh, the newest last.

        Each has its time, what it was (blocked, released, unblocked), reason, actor and detail.

        Errors: InvalidArgument.
        """
        return [
            (
                self._blocklist.to_wall_us(event.at),
                event.what.value,
                event.reason.value,
                printable(event.actor, _MAX_DETAIL_CHARS),
                printable(event.detail, _MAX_DETAIL_CHARS),
            )
            for event in self._blocklist.memory(names.mesh_id(id)).history
        ]

    @method(takes={"id": "s", "usec": "t", "detail": "s"}, action=PolkitAction.BLOCKLIST)
    async def block(self, call: Call, id: str, usec: int, detail: str) -> None:  # noqa: A002
        """Block a mesh for usec, for ever if that is 0; it need not be known.

        Errors: InvalidArgument, Blocked (the bot was kicked), BadFile (in force, but not saved).
        """
        mesh = names.mesh_id(id)
        if usec > _MAX_USEC:
            raise RaveError(
                Code.INVALID_ARGUMENT, f"{usec} us are more than a hundred years", hint="0 means for ever"
            )
        block = self._blocklist.get(mesh)
        if block and block.reason is Reason.KICKED:
            raise RaveError(Code.BLOCKED, f"mesh {mesh} is blocked already: {block.describe()}", mesh=mesh)
        seconds = usec / 1_000_000 if usec else math.inf
        actor = await self._access.actor(call)
        await await_saved(
            mesh,
            self._blocklist.add(
                mesh, Reason.OPERATOR, detail=printable(detail, _MAX_DETAIL_CHARS), actor=actor, seconds=seconds
            ),
        )

    @method(takes={"id": "s"}, returns={"unblocked": "b"}, action=PolkitAction.BLOCKLIST)
    async def unblock(self, call: Call, id: str) -> bool:  # noqa: A002
        """Take an entry out for any reason, and start the mesh if it is listed; false if there is no entry.

        Errors: InvalidArgument, BadFile (in force, but not saved).
        """
        mesh = names.mesh_id(id)
        actor = await self._access.actor(call)
        blocked = self._blocklist.get(mesh) is not None
        await await_saved(mesh, self._blocklist.remove(mesh, actor))
        return blocked

    @method(takes={"entries": "a(sstts)"}, returns={"taken": "u", "over": "u"}, action=PolkitAction.BLOCKLIST)
    async def import_entries(self, call: Call, entries: list[tuple[str, str, int, int, str]]) -> tuple[int, int]:
        """Take the entries of another list; returns how many were taken, and how many are over.

        An entry has the first five columns of ListEntries: id, reason, since, until (0 for ever; a kick and a hold
        always are), detail. The actor is the caller. Where there is an entry already, the one with the weightier
        reason stays (kicked, then operator, held, all others), else the one that lasts longer. At most 100 entries,
        and 64 KiB; all are looked at before one is taken. Those that are neither taken nor over were here already.

        Errors: InvalidArgument, BadFile (in force, but not saved).
        """
        if len(entries) > _MAX_ENTRIES:
            text = f"{len(entries)} entries are too many at once"
            raise RaveError(Code.INVALID_ARGUMENT, text, hint=f"pass at most {_MAX_ENTRIES}")
        actor = await self._access.actor(call)
        taken, over, saved = self._blocklist.import_entries([self._entry(*entry, actor) for entry in entries])
        if not await saved:
            raise not_saved_error(count(taken, "entry"))
        return taken, over

    @method(returns={"entries": "u"}, action=PolkitAction.BLOCKLIST)
    async def restore(self, call: Call) -> int:
        """Use the list that was saved last instead of a file that can't be used; returns its number of entries.

        Errors: InvalidArgument (the file can be used), BadFile.
        """
        return await self._blocklist.restore()

    def show(self) -> None:
        """Take over what the blocklist says."""
        total, permanent, temporary = self._stats()
        error = self._blocklist.error or self._blocklist.save_error
        self.set(Total=total, Permanent=permanent, Temporary=temporary, Error=str(error or ""))

    def changed(self, change: BlocklistChange) -> None:
        """Announce a change."""
        block, detail = change.block, printable(change.block.detail, _MAX_DETAIL_CHARS)
        actor = printable(change.actor, _MAX_DETAIL_CHARS)
        if change.what is What.BLOCKED:
            until = 0 if block.until is None else self._blocklist.to_wall_us(block.until)
            self.emit("Blocked", block.mesh, block.reason.value, until, detail, actor)
        else:
            self.emit("Unblocked", block.mesh, block.reason.value, actor)

    def _oldest_first(self) -> list[Block]:
        return sorted(self._blocklist.announced.values(), key=lambda block: block.since)

    def _columns(self, block: Block) -> tuple[str, int, int, str, str, int]:
        """Reason, since, until (0 for ever), detail, actor and count of an entry."""
        return (
            block.reason.value,
            self._blocklist.to_wall_us(block.since),
            0 if block.until is None else self._blocklist.to_wall_us(block.until),
            printable(block.detail, _MAX_DETAIL_CHARS),
            printable(block.actor, _MAX_DETAIL_CHARS),
            min(block.count, 2**32 - 1),
        )

    def _entry(self, mesh: str, reason: str, since: int, until: int, detail: str, actor: str) -> Block:
        """An entry of a call; raises `RaveError` (InvalidArgument)."""
        if reason not in set(Reason):
            known = ", ".join(Reason)
            raise RaveError(Code.INVALID_ARGUMENT, f"{printable(reason, 40)!r} is no reason", hint=f"known: {known}")
        for_ever = not until or reason in PERMANENT_REASONS
        return Block(
            mesh=names.mesh_id(mesh),
            reason=Reason(reason),
            since=self._blocklist.from_wall_us(since),
            until=None if for_ever else self._blocklist.from_wall_us(until),
            detail=printable(detail, _MAX_DETAIL_CHARS),
            actor=actor,
        )

    def _stats(self) -> tuple[int, int, int]:
        total = len(self._blocklist.announced)
        permanent = sum(block.until is None for block in self._blocklist.announced.values())
        return total, permanent, total - permanent
