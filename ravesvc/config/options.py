"""The options of rave.yaml: those that the service alone needs are declared here, those of workers in
`worker_options`.

How an option is declared, and what its text becomes: `config/declaration.py`. What reads the file:
`config/rave_yaml.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ravesvc import names
from ravesvc.common import machine
from ravesvc.config import table
from ravesvc.config.advice import FOR_SERVICE, Advice
from ravesvc.config.database import Database
from ravesvc.config.declaration import (
    ABSOLUTE_PATH,
    ACCOUNT,
    ADMINS,
    CHOICE,
    DAY_S,
    LEAVING,
    LIMIT,
    MESHES,
    NETWORK,
    NETWORKS,
    PROCESSES,
    STATE_FILE,
    STORE,
    TEXTS,
    TIME_SPAN,
    WHOLE_NUMBER,
    automatic,
    option,
    section,
)
from ravesvc.config.media_settings import MediaSettings, VideoOptions
from ravesvc.config.worker_options import HTTPS_PORT, WorkerOptions
from ravesvc.config.worker_settings import Edition, MeshSettings, digest
from ravesvc.errors import Code, RaveError
from ravesvc.version import __version__

STATE_DIRECTORY = Path("/var/lib/rave")
CONFIGURATION_DIRECTORY = Path(names.CONFIG_FILE).parent

MESH_MODES = ("invited", "public", "friends", "all")
EVERY_ADMIN, OWNERS = "admins", "owners"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(WorkerOptions):
    """Everything that rave.yaml says. Durations are in seconds.

    `database` is what the file at `database_config_path` says; without that file the store is at `state_path`.
    `advice` says what to do about failures.
    `file` is where all of it stands, and `lines` says in which line, by the option's whole name (`tls.ca_file`).
    `warnings` say what is allowed there, but hardly meant.
    """

    # `proxy` has it too, and is what the service compares and uses.
    no_proxy: tuple[str, ...] = option(TEXTS, default=(), chapter=NETWORK, compare=False)
    """What is reached without the proxy: a list of domains with all names in them, addresses and networks.

    A network is written `10.0.0.0/8`. Each may have a port, as in `example.org:8443`; `*` is everything. Where
    `proxy` is not set, `$NO_PROXY` in the service's environment counts.
    """
    allow_addresses: tuple[str, ...] = option(NETWORKS, default=(), chapter=NETWORK)
    """Addresses and networks near this machine that bots may reach. Needed for a Rave of your own alone.

    `IPAddressDeny` of `rave-mesh.slice` denies bots loopback, link-local, multicast and private addresses. Always
    open are the name servers of `/etc/resolv.conf`, and `proxy` and `servers.api` where they are addresses. Where one
    of these two is a host name of your own, private networks are open: name it by its address to close them. A bot
    waits in vain for an answer of what it may not reach. List here where your own Rave has rooms or pictures, if that
    is not on the address of `servers.api`.
    """

    mesh_mode: str = option(CHOICE, default=MESH_MODES[0], chapter=MESHES, words=MESH_MODES, reload=True)
    """Which meshes get a bot: those that it was invited to, public ones, those of friends, or all of these."""
    discovery_interval: float = option(TIME_SPAN, default=60.0, chapter=MESHES, least=1, reload=True)
    """How often the service asks Rave for the list of meshes."""
    limit: int = option(WHOLE_NUMBER, default=20, chapter=MESHES, least=1, most=100, reload=True)
    """How many meshes the service asks for at a time.

    It reads a list that is longer in pages of 100.
    """
    max_processes: int | None = automatic(LIMIT, default=machine.bots_that_fit, chapter=MESHES, reload=True)
    """The largest number of bots; auto: as many as the memory allows, 0: no limit.

    Meshes with an invitation come first, then those that are known for longest. The others are listed with that
    reason. Strangers decide how many invitations there are; so `auto` counts three quarters of the memory of the
    machine, or of the container, at 32 MB for a bot. It allows 2000 bots at most, because the message bus has a
    connection for each. The bot for Node.js had no limit.
    """
    max_meshes_per_user: int | None = option(LIMIT, default=20, chapter=MESHES, reload=True)
    """The largest number of bots in meshes that the same user has made; 0: no limit.

    The oldest meshes come first, and the others are listed with that reason. Admins and the account itself may have
    made any number. Rave does not say who has invited the bot, and not of each mesh who has made it; a mesh without a
    maker is not counted.
    """
    starts_per_minute: int = option(WHOLE_NUMBER, default=300, chapter=MESHES, reload=True)
    """How many bots the service starts in a minute; 0: as many as the machine can.

    Rave sees each start as a join of the same account. The starts of some seconds come at once. Each time Rave asks
    for a pause, the number is halved; ten minutes later it is back.
    """

    state_path: Path = option(STATE_FILE, default=STATE_DIRECTORY / "state.db", chapter=STORE)
    """The file of the store, if it is not MongoDB."""
    database_config_path: Path = option(ABSOLUTE_PATH, default=Path(names.DATABASE_FILE), chapter=STORE)
    """If this file exists, the store is the MongoDB that it names, as in {"uri": "mongodb://localhost/rave-bot"}."""
    history_retention: float = option(TIME_SPAN, default=90 * DAY_S, chapter=STORE, reload=True)
    """For how long a room's histories are kept, such as who was kicked or muted there. 0: not at all.

    What else a room remembers goes when the account has been out of it for that long, but not before a day has
    passed.
    """

    blocklist_duration: float = option(TIME_SPAN, default=3600.0, chapter=LEAVING, least=1, reload=True)
    """For how long a mesh that can't be reached stays on the blocklist."""
    blocklist_persist_path: Path = option(STATE_FILE, default=STATE_DIRECTORY / "blocklist.json", chapter=LEAVING)
    """The file in which the service keeps the blocklist."""

    credentials_path: Path = option(STATE_FILE, default=STATE_DIRECTORY / "credentials.json", chapter=ACCOUNT)
    """The file in which the service keeps the credentials of the account."""

    admins_by_chat: str = option(
        CHOICE, default=EVERY_ADMIN, chapter=ADMINS, words=(EVERY_ADMIN, OWNERS), reload=True
    )
    """Who may make and remove admins from a room with ?admin: all admins, or owners alone.

    An owner is an admin who was made on the host, with `ravectl admin add` or the code of `ravectl admin claim`.
    Owners can't be removed from a room, whichever you set. With `admins` each admin can make more admins; and a bot
    that was taken over can speak for any admin who is in its room. `owners` is the safer choice where there are many
    admins. `ravectl admin undo` takes changes back in either case.
    """
    hourly_changes_per_mesh: int = option(WHOLE_NUMBER, default=10, chapter=ADMINS, least=1, most=1000, reload=True)
    """How often in an hour admins may change from one room what holds in all.

    Such changes are to make and remove admins, to set permissions, to have users ignored, `?refresh` and `?relogin`.
    Attempts that fail count too; what operators do on the host does not. After a restart of the service the changes
    of the last hour still count, but not failed attempts, `?refresh` and `?relogin`.
    """
    hourly_changes: int = option(WHOLE_NUMBER, default=30, chapter=ADMINS, least=1, most=1000, reload=True)
    """The same from all rooms together."""

    process_restart_delay: float = option(TIME_SPAN, default=5.0, chapter=PROCESSES, least=0.1)
    """How long after a crash a bot is started again."""
    max_process_restarts: int = option(WHOLE_NUMBER, default=5, chapter=PROCESSES, least=1, most=1000)
    """After this many restarts in a row the mesh of a bot that crashes is blocked."""
    shutdown_timeout: float = option(TIME_SPAN, default=10.0, chapter=PROCESSES, least=1)
    """A bot that takes longer than this to stop is killed.

    A bot that asks systemd for more time is killed five seconds later.
    """
    status_poll_interval: float = option(TIME_SPAN, default=30.0, chapter=PROCESSES, least=1, reload=True)
    """How often the service asks each bot how it is.

    It restarts a bot that does not answer for a minute, or for twice this time if that is longer.
    """

    videos: VideoOptions = section(VideoOptions, "videos")

    database: Database | None = None
    advice: Advice = field(default=FOR_SERVICE, repr=False, compare=False)
    file: str = field(default=names.CONFIG_FILE, compare=False)
    lines: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)
    warnings: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def problem(self, key: str, text: str, *, hint: str = "") -> RaveError:
        """What is wrong with what an option names, as an error (Config) that says where it stands."""
        line = self.lines.get(key)
        where = self.file if line is None else f"{self.file}:{line}"
        attributes = {"file": self.file, "key": key} | ({} if line is None else {"line": line})
        return RaveError(Code.CONFIG, f"{where}: {key}: {text}", hint=hint, **attributes)

    def with_authorities(self, authorities: str) -> Config:
        """The same with the certificates that `tls.ca_file` holds, in PEM."""
        return dataclasses.replace(self, tls=dataclasses.replace(self.tls, authorities=authorities))

    def edition(self) -> Edition:
        """That of a worker which is started now."""
        return Edition(__version__, digest(self.mesh_settings().to_json()))

    def media_settings(self) -> MediaSettings:
        """The part that the helper for videos is told, or the library in its place."""
        return MediaSettings.of(self.videos, self.tls, self.proxy, debug=self.debug)

    def mesh_settings(self) -> MeshSettings:
        """The part that a worker is told. It does not log in, so it gets none of the keys for that."""
        told = {each.name: getattr(self, each.name) for each in dataclasses.fields(WorkerOptions)}
        told |= {"identity": table.for_workers(self.identity), "connect_ports": self._all_ports()}
        return MeshSettings(**told)

    def _all_ports(self) -> tuple[int, ...]:
        """`connect_ports`, and the ports without which bots would reach nothing."""
        needed = {urlsplit(self.servers.api).port or HTTPS_PORT} | ({self.proxy.port} if self.proxy else set())
        return tuple(sorted({*self.connect_ports, *needed}))


# All options, in the order of their declaration.
TABLE = tuple(table.entries(Config))


# Those that a reload applies, by their names in rave.yaml.
RELOADED = frozenset(entry.name for entry in TABLE if entry.option.reload)


def changes(before: Config, after: Config) -> list[str]:
    """The options whose values differ, by their names in rave.yaml, and `database.json` for what stands there."""
    found = [entry.name for entry in TABLE if entry.field.compare and entry.value(before) != entry.value(after)]
    return [*found, *(["database.json"] if before.database != after.database else [])]
