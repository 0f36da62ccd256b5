"""What goes wrong, and when: each fault has a mean interval, and is drawn anew each time from the seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from ravesvc.blocklist.model import Reason
from ravesvc.core.run_state import RunPhase
from ravesvc.names import ExitStatus
from ravesvc.room.close import CloseKind
from tests.simulation.rave import DOWN, Door, Room, Troubles
from tests.simulation.site import Site

_MINUTE = 60.0
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Fault:
    """`every_s` is the mean interval in seconds while there are faults at all."""

    name: str
    every_s: float
    strike: Callable[[Site, Random], None]


def _some_mesh(site: Site, rng: Random) -> str | None:
    running = [mesh for mesh in site.machine.units if site.machine.run_of(mesh).phase is RunPhase.RUNNING]
    return rng.choice(running) if running else None


def _some_room(site: Site, rng: Random) -> Room:
    return rng.choice(list(site.rave.rooms.values()))


def _crash(site: Site, rng: Random) -> None:
    if mesh := _some_mesh(site, rng):
        site.machine.crash(mesh)


def _crash_many(site: Site, rng: Random) -> None:
    running = list(site.machine.units)
    for mesh in rng.sample(running, min(len(running), rng.randint(2, 20))):
        site.machine.crash(mesh)


def _keeps_crashing(site: Site, rng: Random) -> None:
    """The bot of a mesh ends at once, in one of all ways, each time."""
    ways = [None, None, None, ExitStatus.CRASHED, ExitStatus.CONFIG, ExitStatus.NO_SETTINGS, ExitStatus.LOGIN_NEEDED]
    mesh, status = _some_room(site, rng).id, rng.choice(ways)
    site.machine.broken[mesh] = status
    site.machine.crash(mesh)
    site.ends_in(rng.uniform(_MINUTE, 8 * _HOUR), lambda: site.machine.broken.pop(mesh, None))


def _bad_program(site: Site, rng: Random) -> None:
    """No bot's program runs."""
    site.machine.bad_program = True
    site.promises.all_fail(Reason.CRASHES)
    for mesh in list(site.machine.units):
        site.machine.crash(mesh)

    def mended() -> None:
        site.machine.bad_program = False
        site.promises.all_fail(None)

    site.ends_in(rng.uniform(_MINUTE, 2 * _HOUR), mended)


def _exit(site: Site, rng: Random) -> None:
    """A bot ends by itself with any status."""
    if (mesh := _some_mesh(site, rng)) and mesh not in site.rave.troubles.sudden:
        status = rng.choice(list(ExitStatus))
        if status is ExitStatus.KICKED and rng.random() < 0.5:
            status = ExitStatus.STOPPED
        site.machine.exit(mesh, status)


def _kick(site: Site, rng: Random) -> None:
    mesh = _some_mesh(site, rng)
    if mesh and mesh not in site.rave.troubles.sudden and (bot := site.machine.bot_of(mesh)):
        bot.meet(CloseKind.KICKED)


def _kick_unsaved(site: Site, rng: Random) -> None:
    """A bot is kicked while the disk is full, and the service dies before it can save that."""
    _full_disk(site, rng)
    site.ends_in(rng.uniform(0.0, 30.0), lambda: _kick(site, rng))
    site.ends_in(rng.uniform(30.0, 60.0), site.killed)


def _leave(site: Site, rng: Random) -> None:
    mesh = _some_mesh(site, rng)
    if mesh and mesh not in site.rave.troubles.sudden and (bot := site.machine.bot_of(mesh)):
        bot.meet(ExitStatus.LEFT)


def _drop(site: Site, rng: Random) -> None:
    """Connections break, of one or of many."""
    many = rng.random() < 0.3
    for mesh in list(site.machine.units):
        bot = site.machine.bot_of(mesh)
        if bot and (many or rng.random() < 0.1):
            bot.meet(rng.choice([CloseKind.LOST, CloseKind.LOST, CloseKind.REJECTED]))


def _hang(site: Site, rng: Random) -> None:
    if mesh := _some_mesh(site, rng):
        site.machine.hang(mesh, watched=rng.random() < 0.4)


def _cling(site: Site, rng: Random) -> None:
    """A bot will not stop when it is told to."""
    if (mesh := _some_mesh(site, rng)) and (bot := site.machine.bot_of(mesh)):
        bot.clings = True


def _shut(site: Site, rng: Random) -> None:
    """A room lets the bot in no more, for a while."""
    room = _some_room(site, rng)
    room.door = rng.choice([door for door in Door if door is not Door.OPEN])
    if room.id in site.rave.troubles.sudden:
        room.door = Door.SILENT

    def open_again() -> None:
        room.door = Door.OPEN

    if bot := site.machine.bot_of(room.id):
        bot.meet(CloseKind.LOST)
    site.ends_in(rng.uniform(_MINUTE, 6 * _HOUR), open_again)


def _server_down(site: Site, rng: Random) -> None:
    """A server lets no bot in."""
    server = _some_room(site, rng).server
    site.rave.troubles.servers.add(server)
    for room in site.rave.rooms.values():
        if room.server == server and (bot := site.machine.bot_of(room.id)):
            bot.meet(CloseKind.LOST)
    site.ends_in(rng.uniform(_MINUTE, 2 * _HOUR), lambda: site.rave.troubles.servers.discard(server))


def _servers_down(site: Site, rng: Random) -> None:
    """No server lets a bot in, though Rave answers."""
    servers = {room.server for room in site.rave.rooms.values()}
    site.promises.all_fail(Reason.CONNECTION_FAILURES)
    site.rave.troubles.servers |= servers
    for mesh in list(site.machine.units):
        if bot := site.machine.bot_of(mesh):
            bot.meet(CloseKind.LOST)

    def over() -> None:
        site.rave.troubles.servers -= servers
        site.promises.all_fail(None)

    site.ends_in(rng.uniform(5 * _MINUTE, _HOUR), over)


def _trouble(site: Site, rng: Random) -> None:
    """Rave as a whole is down, slow, wants a pause, refuses the session or sends lists that can't be read."""
    troubles = site.rave.troubles
    seconds = rng.choice([rng.uniform(5.0, 5 * _MINUTE), rng.uniform(_MINUTE, 4 * _HOUR)])
    match rng.randrange(5):
        case 0:
            troubles.down = rng.choice(DOWN)
            if rng.random() < 0.5:
                _drop(site, rng)
        case 1:
            troubles.slow_s = rng.choice([2.0, 20.0, 60.0])
        case 2:
            troubles.pause_s = rng.choice([1.0, 30.0, 600.0])
            seconds = min(seconds, 20 * _MINUTE)
        case 3:
            troubles.session_refused = True
        case _:
            troubles.broken_list = rng.choice(["first page", "later page", "senseless"])

    def over() -> None:
        kept = site.rave.troubles
        site.rave.troubles = Troubles(hidden=kept.hidden, sudden=kept.sudden, servers=kept.servers)

    site.ends_in(seconds, over)


def _hide_suddenly(site: Site, rng: Random) -> None:
    """Lists lack most meshes at once, for too short a time to be believed."""
    troubles = site.rave.troubles
    running = site.machine.present()
    if troubles.hidden or len(running) < 5 or not site.lists_are_known:
        return
    # Of those that run a few stay in the lists, or none.
    kept = rng.sample(running, rng.choice([0, 0, 1, len(running) // 5]))
    troubles.hidden = set(site.rave.rooms) - set(kept)
    troubles.sudden = troubles.hidden & set(running)
    site.ends_in(rng.uniform(1, 20) * site.settings.discovery_interval, site.show_hidden)


def _hide_some(site: Site, rng: Random) -> None:
    """Lists lack a mesh or two for a while."""
    troubles = site.rave.troubles
    if troubles.sudden:
        return
    hidden = {_some_room(site, rng).id for _ in range(rng.randint(1, 2))}
    if len(hidden) * 4 > len(site.machine.present()):
        return
    troubles.hidden |= hidden

    def back() -> None:
        if not site.rave.troubles.sudden:
            site.rave.troubles.hidden -= hidden

    site.ends_in(rng.uniform(0.5, 8) * site.settings.discovery_interval, back)


def _empty(site: Site, rng: Random) -> None:
    """All users leave a room, or come back."""
    room = _some_room(site, rng)
    room.members = () if room.members else (room.originator,)
    if bot := site.machine.bot_of(room.id):
        bot.members_changed()


def _close_room(site: Site, rng: Random) -> None:
    """A room is gone for good; another one takes its place."""
    if site.rave.troubles.sudden:
        return
    room = _some_room(site, rng)
    site.close_room(room.id)
    site.open_room()


def _invite(site: Site, rng: Random) -> None:
    """A room that the bot has left invites it again."""
    rooms = [room for room in site.rave.rooms.values() if not room.invited]
    if rooms and not site.rave.troubles.sudden:
        rng.choice(rooms).invited = True


def _full_disk(site: Site, rng: Random) -> None:
    site.disk.full = True
    site.ends_in(rng.choice([1.0, 30.0, _HOUR]) * rng.random() + 0.1, site.free_disk)


def _kill(site: Site, rng: Random) -> None:
    """The service is killed: now, or in the middle of the next things that it does."""
    if site.process is None:
        return
    if rng.random() < 0.3:
        site.killed()
    else:
        site.process.kill_after(rng.randrange(12))


def _stop_service(site: Site, rng: Random) -> None:
    site.restart_service()


def _reboot(site: Site, rng: Random) -> None:
    site.reboot()


def _set_clock(site: Site, rng: Random) -> None:
    site.clocks.offset += rng.choice([-1, 1]) * rng.choice([2.0, 600.0, 86400.0, 400 * 86400.0])
    site.trace("", f"the wall clock is {site.clocks.offset:+.0f} s off")


FAULTS = (
    Fault("a crash", 20 * _MINUTE, _crash),
    Fault("many crashes", 3 * _HOUR, _crash_many),
    Fault("a bot that keeps ending", 90 * _MINUTE, _keeps_crashing),
    Fault("no program runs", 8 * _HOUR, _bad_program),
    Fault("an exit", 30 * _MINUTE, _exit),
    Fault("a kick", _HOUR, _kick),
    Fault("a kick that can't be saved", 4 * _HOUR, _kick_unsaved),
    Fault("a bot is sent away", 2 * _HOUR, _leave),
    Fault("connections break", 30 * _MINUTE, _drop),
    Fault("a bot hangs", 45 * _MINUTE, _hang),
    Fault("a bot clings", 2 * _HOUR, _cling),
    Fault("a room shuts its door", 40 * _MINUTE, _shut),
    Fault("a server is down", 4 * _HOUR, _server_down),
    Fault("all servers are down", 5 * _HOUR, _servers_down),
    Fault("Rave is in trouble", _HOUR, _trouble),
    Fault("most meshes vanish from the lists", 3 * _HOUR, _hide_suddenly),
    Fault("some meshes vanish from the lists", _HOUR, _hide_some),
    Fault("users come or go", 20 * _MINUTE, _empty),
    Fault("a room closes", 2 * _HOUR, _close_room),
    Fault("an invitation", 30 * _MINUTE, _invite),
    Fault("the disk is full", 90 * _MINUTE, _full_disk),
    Fault("the service is killed", 40 * _MINUTE, _kill),
    Fault("the service is restarted", 3 * _HOUR, _stop_service),
    Fault("the machine boots", 30 * _HOUR, _reboot),
    Fault("the clock is set", 4 * _HOUR, _set_clock),
)
