"""The options that workers get. Each is declared here and nowhere else, with its text for rave.yaml and rave.yaml(5).

A worker reads them from a file that the service has made of rave.yaml: see `config/worker_settings.py`. How to write
a text: `config/declaration.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.config.declaration import (
    ACCOUNT,
    CHAT,
    CHOICE,
    DAY_S,
    LANGUAGE,
    LEAVING,
    LOG,
    NETWORK,
    OPTIONAL_PATH,
    OPTIONAL_TEXT,
    PORTS,
    PROCESSES,
    SWITCH,
    TEXT,
    TEXTS,
    TIME_SPAN,
    URL,
    USER_IDS,
    WHOLE_NUMBER,
    Kind,
    handed_over,
    option,
    section,
)

HTTPS_PORT = 443

# With this `chat_form` the bot finds out which form the server understands.
AUTO = "auto"
CHAT_FORMS = (AUTO, "request", "notification")

# Rave's own server. The URLs of videos begin with it, even when `servers.api` names another.
DEFAULT_API = "https://api.red.wemesh.ca"

# What the sources on Rave's calls disagree on.
VOTE_TIMES = ("seconds", "milliseconds")
VIDEO_HOSTS = ("rave", "room")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientIdentity:
    """The client identity that Rave's servers expect. The operator supplies it; none is shipped.

    `config/identity.py` says what each key is needed for.
    """

    request_hash_key: str = option(TEXT, default="", secret=True)
    """The key that signs each request, in hex digits. Without it no bot starts."""
    mojo_api_key: str = option(TEXT, default="", secret=True, for_service=True)
    """The key for the server that mails login links. Without it no login is possible."""
    parse_application_id: str = option(TEXT, default="", secret=True, for_service=True)
    """The application id for the Parse server. Without it no login is possible."""
    parse_installation_id: str = option(TEXT, default="", secret=True, for_service=True)
    """The installation id for the Parse server, a UUID. You may leave it out."""
    mojo_redirect_url: str = option(TEXT, default="", for_service=True)
    """Where login links lead, an https URL that ends in /mojoauth. Without it no login is possible."""
    user_agent: str = option(TEXT, default="")
    """The program that the bot claims to be, such as `Rave/2149 (8.2.9) (Android 9; MODEL; BRAND DEVICE; en)`.

    Other clients send this and the next two options, so set them too.
    """
    client_version: str = option(TEXT, default="")
    """The version of that program, such as `8.2.9`."""
    app_build: str = option(TEXT, default="")
    """The build number of that program, such as `2149`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Servers:
    """Base URLs, without a slash at the end."""

    api: str = option(URL, default=DEFAULT_API)
    """The server that lists meshes and lets bots join them."""
    parse: str = option(URL, default="https://api.soborol.com/parse")
    """The server that turns a confirmed login into a session."""
    mojo: str = option(URL, default="https://api.mojoauth.com")
    """The server that mails login links."""

    @property
    def api_host(self) -> str:
        """The host of `api`."""
        return urlsplit(self.api).hostname or ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """How certificates are verified: by the system's authorities, or by those in `ca_file` alone.

    `authorities` are the certificates of that file in PEM, for those who may not be able to read it themselves.
    """

    ca_file: str | None = option(OPTIONAL_PATH, default=None)
    """Trust the authorities in this file alone, such as `/etc/ssl/certs/my-ca.pem`, in place of the system's.

    The file has certificates in PEM, at most 512 KiB of them. Root reads it when the service starts, so it may belong
    to root alone and lie anywhere. Service and bots get its certificates; the service refuses a file that has a
    private key in it. After a change of the file, restart the service.
    """
    authorities: str | None = handed_over(OPTIONAL_TEXT, default=None, secret=True)
    insecure_hosts: tuple[str, ...] = option(TEXTS, default=())
    """Hosts whose certificate is not verified at all. Avoid it: all on the way can read and change what is said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxy:
    """The HTTP proxy through which Rave is reached, and the hosts (`proxy.bypasses`) that are reached without it."""

    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    bypass: tuple[str, ...] = ()


def _proxy(source: Object, key: str) -> Proxy | None:
    if source.get(key) is None:
        return None
    found = json_fields.get_object(source, key)
    return Proxy(
        host=json_fields.get_str(found, "host"),
        port=json_fields.get_int(found, "port"),
        user=json_fields.get_str(found, "user"),
        password=json_fields.get_str(found, "password"),
        bypass=TEXTS.from_json(found, "bypass"),
    )


# In the file a URL.
PROXY: Kind[Proxy | None] = Kind(_proxy)


@dataclass(frozen=True, kw_only=True, slots=True)
class UnconfirmedCalls:
    """Calls of Rave that one source alone describes, each to be switched off, and what sources disagree on."""

    playback: bool = option(SWITCH, default=True, reload=True)
    """Play, pause, and go to a position."""
    end_video: bool = option(SWITCH, default=True, reload=True)
    """End the video for all in the room."""
    clear_votes: bool = option(SWITCH, default=True, reload=True)
    """Take all votes back."""
    other_providers: bool = option(SWITCH, default=True, reload=True)
    """Play videos of other providers than YouTube."""
    profiles: bool = option(SWITCH, default=True, reload=True)
    """Read the profile of a user."""
    privacy: bool = option(SWITCH, default=True, reload=True)
    """Change who finds a room: all users, friends, or those who are invited."""
    vote_time: str = option(CHOICE, default=VOTE_TIMES[0], words=VOTE_TIMES, reload=True)
    """The unit of the time of a vote. The sources disagree, and both are reported to work."""
    video_host: str = option(CHOICE, default=VIDEO_HOSTS[0], words=VIDEO_HOSTS, reload=True)
    """The host in the URL of a video that is voted for. The sources disagree, and both are reported to work.

    With `rave` it is `api.red.wemesh.ca`, also where `servers.api` names another host. With `room` it is the host of
    the video that the room plays.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerOptions:
    """The part of rave.yaml that workers get. Durations are in seconds.

    Add an option with a default that keeps running workers as they are: a changed default makes them outdated.
    """

    identity: ClientIdentity = section(ClientIdentity, "client_identity")
    servers: Servers = section(Servers, "servers")
    tls: Tls = section(Tls, "tls")
    proxy: Proxy | None = option(PROXY, default=None, chapter=NETWORK, environment="HTTPS_PROXY")
    """The HTTP proxy to Rave, `http://HOST:PORT` or `http://USER:PASSWORD@HOST:PORT`; without one, connections are
    direct.

    Write `%40` for an @ in user or password. Requests and sockets of service and bots go through the proxy with
    `CONNECT`: to the hosts of `servers`, to those of the rooms, and to those where Rave has pictures stored. The
    proxy has to allow their ports. It resolves Rave's names but never sees what is said, because TLS goes on to Rave.
    A proxy that opens TLS all the same needs its authority in `tls.ca_file`. SOCKS proxies, and proxies that are
    reached by TLS themselves, are not supported. The connection to MongoDB takes no proxy.
    """
    connect_ports: tuple[int, ...] = option(PORTS, default=(HTTPS_PORT,), chapter=NETWORK)
    """The ports that bots connect to, besides those of `servers.api` and `proxy`.

    Rave's rooms and its store of pictures are on the default. A bot that was taken over reaches no other port by TCP,
    where the kernel has Landlock of version 4 (Linux 6.7).
    """
    lang: str = option(LANGUAGE, default="en", chapter=ACCOUNT, reload=True)
    """The language of the account, in which bots answer if they know it: en or de so far, else English."""
    command_prefix: tuple[str, ...] = option(TEXTS, default=("?", "!"), chapter=CHAT, reload=True)
    """What a command begins with, one text or a list.

    Capitals, full width, and what keyboards and their autocorrection write in its place count too: with the prefix
    `?`, `¿ping` is a command, and with `bot`, `Bot Ping`.
    """
    chat_form: str = option(CHOICE, default=AUTO, chapter=CHAT, words=CHAT_FORMS, reload=True)
    """The form in which messages go to Rave; with `auto` each bot finds out what its server shows.

    Some servers take requests and show nothing. With `auto` a bot that sees no echo of its message within 35 seconds
    sends it once more in the other form, and keeps the form that had an echo. A server whose echo takes at most half
    a minute shows no message twice. Other bots begin with the form that one bot has found, until the service and all
    bots have been stopped. If bots log that their server shows notifications alone, set `notification`: it saves the
    first message after that this wait. Messages without an echo are counted; `ravectl explain` and `ravectl status`
    show them.
    """
    ignored_users: tuple[int, ...] = option(USER_IDS, default=(), chapter=CHAT, reload=True)
    """Users, by id, whom no bot listens to or answers, such as other bots.

    To ignore more users while bots run, use `ravectl ignore`. Bots always listen to admins.
    """
    typing_delay: float = option(TIME_SPAN, default=1.0, chapter=CHAT, most=60, reload=True)
    """For how long a bot shows that it is typing before it answers."""
    max_connection_attempts: int = option(WHOLE_NUMBER, default=3, chapter=LEAVING, least=1, reload=True)
    """A mesh that can't be reached this often in a row is put on the blocklist.

    rave-orchestrator(8) says more of the blocklist.
    """
    connection_failure_window: float = option(TIME_SPAN, default=120.0, chapter=LEAVING, most=DAY_S, reload=True)
    """The least time from the first of these failures to the last. 0: their number alone decides.

    So the restart of a server blocks no mesh. Until that time is over, the bot tries again, less and less often.
    """
    leave_when_alone: float = option(TIME_SPAN, default=180.0, chapter=LEAVING, most=DAY_S, reload=True)
    """For how long a bot stays in a mesh after the last other user has left. 0: for ever.

    It stays invited, and comes back when the list of meshes shows another user there. A bot does not leave a mesh
    that was empty from the start.
    """
    watchdog: float = option(TIME_SPAN, default=30.0, chapter=PROCESSES, least=5)
    """A bot that hangs for longer than this counts as crashed.

    systemd watches it. The program `ravesvc`, which runs all bots in one process, does not.
    """
    debug: bool = option(SWITCH, default=False, chapter=LOG)
    """Say more in the log."""
    unconfirmed_calls: UnconfirmedCalls = section(UnconfirmedCalls, "unconfirmed_calls")
