"""What a child gets at its start: settings and session, as JSON files (OpenFile= of its unit).

The parent derives both from rave.yaml and the credentials; a child parses no YAML.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

from ravesvc import names
from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.errors import Code, RaveError

# A connection that lasts this long is stable: the failures before it are forgotten.
STABLE_AFTER_S = 60.0

# With this `chat_form` the bot finds out which form the server understands.
AUTO = "auto"
CHAT_FORMS = (AUTO, "request", "notification")

# Rave's own server. The URLs of videos begin with it, even when `servers.api` names another.
DEFAULT_API = "https://api.red.wemesh.ca"

# What the sources on Rave's calls disagree on.
VOTE_TIMES = ("seconds", "milliseconds")
VIDEO_HOSTS = ("rave", "room")

# Why a child may lack its settings, and what helps.
NOT_HANDED_OVER = (
    f"{names.SETTINGS_FILE} is missing ('systemctl restart rave-orchestrator' writes it), a drop-in has reset"
    f" OpenFile= ('systemctl cat {names.MESH_UNIT_TEMPLATE}' shows which), or it was not started as"
    f" {names.MESH_UNIT_TEMPLATE}"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientIdentity:
    """The client identity that Rave's servers expect. The operator supplies it; none is shipped."""

    request_hash_key: str = field(repr=False)
    mojo_api_key: str = field(default="", repr=False)
    parse_application_id: str = field(default="", repr=False)
    parse_installation_id: str = field(default="", repr=False)
    mojo_redirect_url: str = ""
    user_agent: str = ""
    client_version: str = ""
    app_build: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Servers:
    """Base URLs, without a slash at the end."""

    api: str
    parse: str
    mojo: str

    @property
    def api_host(self) -> str:
        """The host of `api`."""
        return urlsplit(self.api).hostname or ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """How certificates are verified: by the system's authorities, or by those in `ca_file` alone.

    `authorities` are the certificates of that file in PEM, for those who may not be able to read it themselves.
    `insecure_hosts` are host names whose certificate is not verified at all.
    """

    ca_file: str | None = None
    authorities: str | None = field(default=None, repr=False)
    insecure_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxy:
    """The HTTP proxy through which Rave is reached, and the hosts (`proxy.bypasses`) that are reached without it."""

    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    bypass: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class UnconfirmedCalls:
    """Calls of Rave that one source alone describes, each to be switched off, and what sources disagree on.

    Attributes:
        playback: play, pause and seek.
        end_video: end the video for all in the room.
        clear_votes: take all votes back.
        other_providers: register videos of others than YouTube.
        profiles: read the profiles of users.
        vote_time: the unit of the time of a vote, one of `VOTE_TIMES`.
        video_host: whose host the URLs of videos have, one of `VIDEO_HOSTS`: that of `DEFAULT_API`, or that of the
            video which the room plays.
    """

    playback: bool = True
    end_video: bool = True
    clear_votes: bool = True
    other_providers: bool = True
    profiles: bool = True
    vote_time: str = VOTE_TIMES[0]
    video_host: str = VIDEO_HOSTS[0]

    @classmethod
    def from_object(cls, source: Object) -> UnconfirmedCalls:
        """Typed from an object with the keys of this class; raises `RaveError` (BadData)."""
        return cls(
            playback=json_fields.get_bool(source, "playback"),
            end_video=json_fields.get_bool(source, "end_video"),
            clear_votes=json_fields.get_bool(source, "clear_votes"),
            other_providers=json_fields.get_bool(source, "other_providers"),
            profiles=json_fields.get_bool(source, "profiles"),
            vote_time=_one_of(source, "vote_time", VOTE_TIMES),
            video_host=_one_of(source, "video_host", VIDEO_HOSTS),
        )


@dataclass(frozen=True, slots=True)
class Edition:
    """Which program a child runs, and with which settings: what an upgrade or an edit of rave.yaml changes.

    `digest` is that of the settings file, see `digest`.
    """

    version: str
    digest: str


def digest(settings: str) -> str:
    """What tells one text of the settings file from another; the keys in it can't be found by trying."""
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class MeshSettings:
    """What a child needs of rave.yaml. Durations are in seconds.

    `connect_ports` are all that TCP may connect to, that of Rave's API and that of the proxy among them.
    `watchdog` is systemd's to know (WatchdogSec=). It is here because a running child keeps the one of its start.
    """

    identity: ClientIdentity
    servers: Servers
    tls: Tls
    proxy: Proxy | None = None
    connect_ports: tuple[int, ...]
    lang: str
    command_prefix: tuple[str, ...]
    chat_form: str
    ignored_users: tuple[int, ...]
    typing_delay: float
    max_connection_attempts: int
    connection_failure_window: float
    leave_when_alone: float
    watchdog: float
    debug: bool
    unconfirmed_calls: UnconfirmedCalls = field(default_factory=UnconfirmedCalls)

    def to_json(self) -> str:
        """The text of the settings file."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> MeshSettings:
        """Read what `to_json` wrote; raises `RaveError` (BadData)."""
        top = json_fields.parse_object(text, "the settings file")
        identity = json_fields.get_object(top, "identity")
        servers = json_fields.get_object(top, "servers")
        return cls(
            identity=ClientIdentity(**{key: json_fields.get_str(identity, key) for key in ClientIdentity.__slots__}),
            servers=Servers(**{key: json_fields.get_str(servers, key) for key in Servers.__slots__}),
            tls=read_tls(top),
            proxy=read_proxy(top),
            connect_ports=_ports(top, "connect_ports"),
            lang=json_fields.get_str(top, "lang"),
            command_prefix=_texts(top, "command_prefix"),
            chat_form=_one_of(top, "chat_form", CHAT_FORMS),
            ignored_users=_user_ids(top, "ignored_users"),
            typing_delay=json_fields.get_number(top, "typing_delay"),
            max_connection_attempts=json_fields.get_int(top, "max_connection_attempts"),
            connection_failure_window=json_fields.get_number(top, "connection_failure_window"),
            leave_when_alone=json_fields.get_number(top, "leave_when_alone"),
            watchdog=json_fields.get_number(top, "watchdog"),
            debug=json_fields.get_bool(top, "debug"),
            unconfirmed_calls=UnconfirmedCalls.from_object(json_fields.get_object(top, "unconfirmed_calls")),
        )


def _one_of(source: Object, key: str, allowed: tuple[str, ...]) -> str:
    value = json_fields.get_str(source, key)
    if value not in allowed:
        raise RaveError(Code.BAD_DATA, f"{key} must be one of {', '.join(allowed)}", key=key)
    return value


def read_tls(top: Object) -> Tls:
    """The `tls` of a settings file; raises `RaveError` (BadData)."""
    tls = json_fields.get_object(top, "tls")
    return Tls(
        ca_file=json_fields.opt_str(tls, "ca_file"),
        authorities=json_fields.opt_str(tls, "authorities"),
        insecure_hosts=_texts(tls, "insecure_hosts"),
    )


def read_proxy(top: Object) -> Proxy | None:
    """The `proxy` of a settings file, None if it names none; raises `RaveError` (BadData)."""
    if top.get("proxy") is None:
        return None
    proxy = json_fields.get_object(top, "proxy")
    return Proxy(
        host=json_fields.get_str(proxy, "host"),
        port=json_fields.get_int(proxy, "port"),
        user=json_fields.get_str(proxy, "user"),
        password=json_fields.get_str(proxy, "password"),
        bypass=_texts(proxy, "bypass"),
    )


def _ports(source: Object, key: str) -> tuple[int, ...]:
    ports = tuple(json_fields.get_int({key: entry}, key) for entry in json_fields.get_list(source, key))
    if not all(0 < port < 65536 for port in ports):
        raise RaveError(Code.BAD_DATA, f"{key} must be ports", key=key)
    return ports


def _user_ids(source: Object, key: str) -> tuple[int, ...]:
    return tuple(json_fields.get_int({key: entry}, key) for entry in json_fields.get_list(source, key))


def _texts(source: Object, key: str) -> tuple[str, ...]:
    return tuple(json_fields.get_str({key: entry}, key) for entry in json_fields.get_list(source, key))


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """The account's session: what a request or a socket needs of the credentials, and no more."""

    device_id: str
    ssaid: str
    user_id: int
    auth_token: str = field(repr=False)

    @property
    def peer_id(self) -> str:
        """The id of our socket participant."""
        return f"{self.user_id}_{self.device_id}"

    def to_json(self) -> str:
        """The text of the session file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Session:
        """Read what `to_json` wrote; raises `RaveError` (BadData)."""
        return cls.from_object(json_fields.parse_object(text, "the session file"))

    @classmethod
    def from_object(cls, source: Object) -> Session:
        """Typed from an object with the keys of this class."""
        return cls(
            device_id=json_fields.get_str(source, "device_id"),
            ssaid=json_fields.get_str(source, "ssaid"),
            user_id=json_fields.get_int(source, "user_id"),
            auth_token=normalise_token(json_fields.get_str(source, "auth_token")),
        )


def user_of_peer(peer: object) -> int | None:
    """The user whom a peer id ("<user id>_<device id>") names, or None if that is no user id."""
    user = json_fields.as_int(peer.partition("_")[0]) if isinstance(peer, str) and "_" in peer else None
    return user if user is not None and user > 0 else None


def normalise_token(token: str) -> str:
    """A Parse token without its `r:` prefix (also spelt `r: `), as HTTP and WebSocket headers want it.

    However often it stands there: a token that is normalised once more must stay the same.
    """
    token = token.strip()
    while token.startswith("r:"):
        token = token.removeprefix("r:").strip()
    return token
