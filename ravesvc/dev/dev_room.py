"""One room: a simulated Rave on loopback, and in it the bot as it runs elsewhere, in single-process mode."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ravesvc.config import rave_yaml
from ravesvc.config.advice import FOR_ONE_PROCESS
from ravesvc.config.rave_yaml import Places
from ravesvc.dev import lines
from ravesvc.errors import Code, RaveError
from ravesvc.setup.check import with_authorities
from ravesvc.simulator.account import YOUTUBE_KEY, SimulatedAccount
from ravesvc.simulator.mesh import SimulatedUser
from ravesvc.simulator.peer import SocketPeer
from ravesvc.simulator.server import Simulator
from ravesvc.simulator.state_dir import StateDir
from ravesvc.single.manager import BotManager

_COMMANDS = "commands.d"
_TITLE = "A film"
# Beside what points to the simulator: no bot of an author is to wait, nor to leave.
_OPTIONS = "typing_delay: 0\nleave_when_alone: 0\n"
_DISCOVERY_INTERVAL = "1h"
# Until the bot is in the room. It takes a second.
_JOIN_TIMEOUT_S = 20.0
_LOOK_INTERVAL_S = 0.01
# For what a message has set off.
_SETTLE_TIMEOUT_S = 10.0


def commands_directory(directory: Path) -> Path:
    """The bot's directory of commands, which is made if it does not exist."""
    made = directory / _COMMANDS
    made.mkdir(mode=0o755, exist_ok=True)
    return made


class DevRoom:
    """Lives once, from `open` to `close`; between them the bot is started and stopped.

    Args:
        directory: an empty one, for all files.
        happened: called with each event of the room that has not been told yet, see `EventLog`, and the room's id.
    """

    def __init__(self, directory: Path, happened: Callable[[dict[str, Any], str], None]) -> None:
        self._directory = directory
        self._happened = happened
        self._told = 0
        self._teller: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start the simulator, with a mesh and the account of a bot. Raises `RaveError` (BadFile, Network)."""
        state_dir = StateDir(self._directory / "simulator")
        await asyncio.to_thread(state_dir.init)
        account = state_dir.account()
        control = self._directory / "control.sock"
        self._simulator = Simulator(state_dir, account, host="127.0.0.1", port=0, control=control)
        await self._simulator.start()
        self._world = self._simulator.world
        self._mesh = self._world.create(title=_TITLE)
        self._manager = self._make_manager(account, state_dir.ca_file)
        self._told = self._world.log.seq
        self._teller = asyncio.create_task(self._tell())

    async def close(self) -> None:
        """Stop the simulator."""
        if self._teller is None:
            return
        self._teller.cancel()
        await asyncio.gather(self._teller, return_exceptions=True)
        self.tell()
        await self._simulator.stop()

    async def start(self) -> None:
        """Start the bot, and return when it is in the room and has said what it says then. Raises `RaveError`."""
        self._world.invite(self._mesh, self._world.bot)
        await self._manager.start()
        try:
            async with asyncio.timeout(_JOIN_TIMEOUT_S):
                while not self._is_connected():  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(_LOOK_INTERVAL_S)
        except TimeoutError as e:
            why = self._manager.rooms[self._mesh.id].reason if self._mesh.id in self._manager.rooms else ""
            raise RaveError(Code.TIMEOUT, "the bot does not come into the room", hint=why) from e
        await self.settle()

    async def stop(self) -> None:
        """Have the bot leave, if it runs."""
        await self._manager.stop()

    async def restart(self) -> None:
        """Stop the bot and start it again, with all that it has saved; also one that has left by `?leave`."""
        await self.stop()
        # One that has left by ?leave, or was kicked, would be kept out. `unblock` could come before that is known.
        blocklist = self._manager.settings.blocklist_persist_path
        for file in blocklist.parent.glob(f"{blocklist.name}*"):
            file.unlink()
        await self.start()

    async def refresh(self) -> None:
        """Have the bot read its plugins again."""
        await self._manager.refresh()

    async def settle(self) -> None:
        """Return when the bot has answered what it was told, or has had its time for that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_TIMEOUT_S):
                # What it says and does may make it say more.
                while await self._settle_once():
                    pass

    def say(self, handle: str, text: str) -> None:
        """A user, who joins if necessary, writes a message. A known user after an @ is mentioned."""
        known = {user.handle: user for user in self._world.users.values()}
        mentions = [known[each] for each in lines.mentioned(text) if each in known]
        self._world.send_chat(self._mesh, self._world.user(handle), text, mentions=mentions)

    def react(self, handle: str, emoji: str) -> None:
        """A user, who joins if necessary, reacts to the bot's latest message.

        Raises `RaveError` (InvalidArgument) if it has said nothing.
        """
        said = self._world.said_by_bot(self._mesh, 0)
        if not said:
            raise RaveError(Code.INVALID_ARGUMENT, "the bot has said nothing to react to")
        self._world.send_reaction(self._mesh, self._world.user(handle), emoji, said[-1]["id"])

    def join(self, handle: str) -> None:
        """A user joins, who may be there already."""
        self._world.join(self._mesh, [self._world.user(handle)])

    def leave(self, handle: str) -> bool:
        """A user leaves; False if they are not there."""
        return self._world.leave(self._mesh, [self._world.user(handle)])

    async def add_admin(self, handle: str) -> bool:
        """Make a user an admin; False if they are one. Raises `RaveError` as `BotManager.add_admin`."""
        return await self._manager.add_admin(self._world.user(handle).id)

    def name(self, handle: str) -> str:
        """The display name of a user."""
        return self._world.user(handle).display_name

    @property
    def users(self) -> Sequence[SimulatedUser]:
        """Who is in the room, in the order in which they have joined; the bot is one of them."""
        return self._mesh.users()

    def tell(self) -> None:
        """Tell what has happened since the last time."""
        log = self._world.log
        events, self._told = log.after(self._told), log.seq
        for event in events:
            self._happened(event, self._mesh.id)

    async def _tell(self) -> None:
        log = self._world.log
        while True:
            await log.wait_until(lambda: log.seq > self._told, math.inf)
            self.tell()

    async def _settle_once(self) -> bool:
        """Wait until the bot has received all, and has done what it has begun; returns whether anything happened."""
        told = self._world.log.seq
        peer = self._mesh.peers.get(self._world.bot.peer_id)
        with contextlib.suppress(RaveError):
            if isinstance(peer, SocketPeer) and peer.joined:
                # Frames arrive in their order: with its answer the bot has received all that came before.
                await peer.request("settle", {}, _SETTLE_TIMEOUT_S)
            await self._manager.settle(self._mesh.id)
        happened = [event for event in self._world.log.after(told) if event["type"] != "answered"]
        self.tell()
        return bool(happened)

    def _is_connected(self) -> bool:
        room = self._manager.rooms.get(self._mesh.id)
        return room is not None and room.state == "connected"

    def _make_manager(self, account: SimulatedAccount, ca_file: Path) -> BotManager:
        state = self._directory / "state"
        state.mkdir()
        credentials = state / "credentials.json"
        credentials.touch(mode=0o600)
        credentials.write_text(account.credentials())
        # With it the bot finds the simulator's made-up videos.
        (self._directory / "youtube.key").write_text(YOUTUBE_KEY)
        file = self._directory / "rave.yaml"
        config = account.config(
            server=self._world.server, ca_file=str(ca_file), discovery_interval=_DISCOVERY_INTERVAL
        )
        file.write_text(config + _OPTIONS)
        places = Places(state=state, configuration=self._directory, advice=FOR_ONE_PROCESS)
        # Not by `BotManager.from_config`, which has the state where the author's own bots have theirs, and would take
        # the proxy of the shell.
        return BotManager(with_authorities(rave_yaml.load(file, places)), commands_directory(self._directory))
