"""Every name that crosses a boundary: bus names, object paths, interfaces, units, files, exit statuses.

The unit files and the D-Bus policy under packaging/ spell the same names; tests compare them with this module.
"""

from __future__ import annotations

import re
from enum import IntEnum, StrEnum

from ravesvc.errors import Code, RaveError

# The parent's side of the bus.
BUS_NAME = "org.ravesvc.Rave1"
MANAGER_PATH = "/org/ravesvc/Rave1"
MANAGER_INTERFACE = "org.ravesvc.Rave1.Manager"
ACCOUNT_INTERFACE = "org.ravesvc.Rave1.Account"
PERMISSIONS_INTERFACE = "org.ravesvc.Rave1.Permissions"
STORE_INTERFACE = "org.ravesvc.Rave1.Store"
CANARY_INTERFACE = "org.ravesvc.Rave1.Canary"
BLOCKLIST_INTERFACE = "org.ravesvc.Rave1.Blocklist"
MESH_INTERFACE = "org.ravesvc.Rave1.Mesh"
BACKEND_PATH = "/org/ravesvc/Rave1/backend"
BACKEND_INTERFACE = "org.ravesvc.Rave1.Backend"
ERROR_PREFIX = "org.ravesvc.Rave1.Error."

# A worker's side of the bus.
WORKER_NAME_PREFIX = "org.ravesvc.Rave1.Worker"
WORKER_INTERFACE = "org.ravesvc.Rave1.Worker"
# A text in a worker's report to the service. A server or a user may have written it, and a bot that sends a message
# of more than 64 KiB is killed, so the worker cuts it. The service cuts it too: a bot that was taken over does not.
MAX_REPORT_CHARS = 300

# systemd.
ORCHESTRATOR_UNIT = "rave-orchestrator.service"
TARGET_UNIT = "rave-meshes.target"
WORKER_USER = "rave-mesh"
# A bot that still stops this long after shutdown_timeout is killed. Before that systemd tries by itself.
STOP_GRACE_S = 5.0
MEDIA_UNIT = "rave-media.service"
MEDIA_SOCKET_UNIT = "rave-media.socket"
_MESH_UNIT = re.compile(r"rave-mesh@(?P<id>[^/]+)\.service")
MESH_UNIT_TEMPLATE = "rave-mesh@.service"
MESH_SLICE = "rave-mesh.slice"
MESH_UNIT_PATTERN = "rave-mesh@*.service"
# Two bots without a mesh, of which one attacks the other for ravectl doctor.
DOCTOR_UNIT = "rave-mesh@doctor.service"
DOCTOR_SIBLING_UNIT = "rave-mesh@doctor-sibling.service"

# Files. Those under /run/rave belong to root: OpenFile= in rave-mesh@.service hands them over, by these names.
ENDED_DIRECTORY = "/var/lib/rave/ended"
CONFIG_FILE = "/etc/rave/rave.yaml"
# The package copied CONFIG_FILE from it when it was installed: all options with their defaults, as comments.
SHIPPED_CONFIG_FILE = "/usr/share/rave-orchestrator/rave.yaml"
DATABASE_FILE = "/etc/rave/database.json"
# The key of the YouTube Data API, which only root may read: systemd hands it to rave-media.service.
YOUTUBE_KEY_FILE = "/etc/rave/youtube.key"
SETTINGS_FILE = "/run/rave/settings.json"
SESSION_FILE = "/run/rave/session.json"
# Certificates, which are no secret: the parent reads it.
AUTHORITIES_FILE = "/run/rave/authorities.pem"
# Local addresses that bots may reach beside name servers, one or a network a line, for rave-name-servers.service.
ALLOWED_ADDRESSES_FILE = "/run/rave/allowed-addresses"
# The order of ravectl doctor to the attacking bot, and that bot's result.
DOCTOR_ENVIRONMENT_FILE = "/run/rave/doctor.env"
DOCTOR_RESULT_FILE = "/run/rave/doctor.json"
# The settings of the video helper, and where it listens.
MEDIA_SETTINGS_FILE = "/run/rave/media.json"
MEDIA_SOCKET = "/run/rave-media/socket"
MEDIA_SOCKET_NAME = "socket"
YOUTUBE_KEY_NAME = "youtube-key"
SETTINGS_NAME = "settings"
SESSION_NAME = "session"
# The memory of a bot that its unit keeps: which plugin ran when the process ended.
PLUGINS_NAME = "plugins"
# With this the names of files begin that a drop-in hands over for plugins.
SECRET_PREFIX = "secret-"  # noqa: S105 - none itself

# Where operators put commands of their own: files, or modules of packages that name this entry point group.
COMMANDS_DIRECTORY = "/etc/rave/commands.d"
# What operators install with pip for plugins, without touching what Debian has installed.
LIBRARIES_DIRECTORY = "/usr/local/lib/rave-orchestrator/python"
COMMANDS_GROUP = "ravesvc.commands"

_MESH_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class PolkitAction(StrEnum):
    """The rights that a method of the manager or of a mesh object may demand (packaging/polkit)."""

    READ = "org.ravesvc.Rave1.read"
    OPERATE = "org.ravesvc.Rave1.operate"
    BLOCKLIST = "org.ravesvc.Rave1.blocklist"
    ADMINS = "org.ravesvc.Rave1.admins"
    CREDENTIALS = "org.ravesvc.Rave1.credentials"


class Announcement(StrEnum):
    """Announcements of the parent to its workers: methods of `Worker`, after which a worker asks `Backend` again."""

    ADMINS = "RefreshAdmins"
    PERMISSIONS = "RefreshPermissions"
    IGNORED = "RefreshIgnored"
    CREDENTIALS = "RefreshCredentials"
    COMMANDS = "RefreshCommands"


class ExitStatus(IntEnum):
    """How a worker ends: the durable event by which the parent decides about its mesh.

    All but `STOPPED` and `CRASHED` are final: rave-mesh@.service lists them in RestartPreventExitStatus=.
    The numbers keep clear of the LSB (0-7), sysexits.h (64-78) and systemd (200-243) ranges of systemd.exec(5);
    `CONFIG` is the EX_CONFIG of sysexits.h.
    """

    STOPPED = 0
    CRASHED = 1
    CONFIG = 78
    KICKED = 80
    LEFT = 81
    GONE = 82
    UNREACHABLE = 83
    REJECTED = 84
    LOGIN_NEEDED = 85
    NO_SETTINGS = 86
    TOO_LARGE = 87
    ELSEWHERE = 88
    ALONE = 89


FINAL_STATUSES = frozenset(ExitStatus) - {ExitStatus.STOPPED, ExitStatus.CRASHED}


# In the place of a mesh: what the store keeps for all meshes together.
ALL_MESHES = "00000000-0000-0000-0000-000000000000"


def is_mesh_id(text: str) -> bool:
    """Whether a text is a mesh id: a lower-case UUID, but `ALL_MESHES`."""
    return _MESH_ID.fullmatch(text) is not None and text != ALL_MESHES


def mesh_id(text: str) -> str:
    """Return `text` if it is a mesh id, else raise `RaveError` (InvalidArgument)."""
    if not is_mesh_id(text):
        raise RaveError(
            Code.INVALID_ARGUMENT,
            f"{text[:80]!r} is not a mesh id",
            hint="a mesh id looks like 11111111-2222-4333-8444-555555555555, in lower case",
        )
    return text


def escape(text: str) -> str:
    """Escape one label of an object path or bus name as sd_bus_path_encode(3) does.

    Letters and digits stay, anything else becomes _xx in hexadecimal; so does a leading digit, which a bus name
    element may not have.
    """
    if not text:
        return "_"
    label = "".join(c if c.isascii() and c.isalnum() else "".join(f"_{b:02x}" for b in c.encode()) for c in text)
    return f"_{ord(label[0]):02x}{label[1:]}" if label[0].isdigit() else label


def unescape(label: str) -> str:
    """Undo `escape`; raise `RaveError` (InvalidArgument) for a label that `escape` can't have made."""
    if label == "_":
        return ""
    try:
        text = re.sub(rb"_([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), label.encode()).decode()
    except UnicodeError:
        text = ""
    if not text or escape(text) != label:
        raise RaveError(Code.INVALID_ARGUMENT, f"{label[:80]!r} is not an escaped label")
    return text


def mesh_unit(mesh: str) -> str:
    """The unit of a mesh. The id stands unescaped (%i): a UUID needs no escaping, and %I would turn - into /."""
    return f"rave-mesh@{mesh}.service"


def kill_unit(mesh: str) -> str:
    """The unit that kills the bot of a mesh if it does not stop."""
    return f"rave-kill@{mesh}.service"


def ended_unit(mesh: str) -> str:
    """The unit that notes how the bot of a mesh has ended."""
    return f"rave-ended@{mesh}.service"


def mesh_of_unit(unit: str) -> str | None:
    """The mesh id of a `rave-mesh@` unit, or None for any other unit."""
    match = _MESH_UNIT.fullmatch(unit)
    return match["id"] if match and _MESH_ID.fullmatch(match["id"]) else None


def mesh_path(mesh: str) -> str:
    """The parent's object for a mesh."""
    return f"{MANAGER_PATH}/mesh/{escape(mesh)}"


def worker_name(mesh: str) -> str:
    """The bus name that the worker of a mesh owns."""
    return f"{WORKER_NAME_PREFIX}.{escape(mesh)}"


def worker_path(mesh: str) -> str:
    """The worker's object for its mesh."""
    return f"{MANAGER_PATH}/worker/{escape(mesh)}"


def mesh_of_worker_path(path: str) -> str | None:
    """The mesh id that a worker's object path speaks for, or None if it is no such path."""
    prefix = f"{MANAGER_PATH}/worker/"
    if not path.startswith(prefix):
        return None
    try:
        return mesh_id(unescape(path[len(prefix) :]))
    except RaveError:
        return None
