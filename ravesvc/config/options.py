"""rave.yaml -> `Config`. An error names file, line and key, says what is wrong and how to mend it; all are reported.

The option names are those of rave.yaml(5). The file is read as a tree of nodes, not as Python values, because only
nodes know their line. The one importer of yaml.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import yaml

from ravesvc import names
from ravesvc.common import machine, text_file, timespan
from ravesvc.common.json_fields import as_user_id
from ravesvc.common.spelling import nearest
from ravesvc.common.text import printable
from ravesvc.config import database, proxy
from ravesvc.config.advice import FOR_SERVICE, Advice
from ravesvc.config.database import Database
from ravesvc.config.media_settings import PROVIDERS, MediaSettings, VideoOptions
from ravesvc.config.worker_settings import (
    AUTO,
    CHAT_FORMS,
    DEFAULT_API,
    VIDEO_HOSTS,
    VOTE_TIMES,
    ClientIdentity,
    Edition,
    MeshSettings,
    Proxy,
    Servers,
    Tls,
    UnconfirmedCalls,
    digest,
)
from ravesvc.errors import Code, RaveError
from ravesvc.version import __version__

T = TypeVar("T")

ADMINS, OWNERS = "admins", "owners"
HTTPS_PORT = 443
MESH_MODES = ("invited", "public", "friends", "all")

# The shipped file has 3 kB.
_MAX_FILE_BYTES = 1024 * 1024

# The sections of the file, by the attributes of `Config` that have what they say.
_SECTIONS = {
    "identity": "client_identity",
    "servers": "servers",
    "tls": "tls",
    "unconfirmed_calls": "unconfirmed_calls",
    "videos": "videos",
}

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?(:[1-9][0-9]{0,4})?")

_NOT_IN_BASE_URL = frozenset("?#@ ")

# PyYAML quotes the names of aliases and tags, but what begins with * or ! may be a secret that lacks its quotes.
_QUOTED_NAME = re.compile(r" '[^'<>]{2,}'")


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where files are that rave.yaml does not name: those of the state in a directory, that of the database.

    `advice` is for whom the file is.
    """

    state: Path = Path("/var/lib/rave")
    database: Path = Path(names.DATABASE_FILE)
    youtube_key: Path = Path(names.YOUTUBE_KEY_FILE)
    advice: Advice = FOR_SERVICE


# Those of the service.
_PLACES = Places()


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Everything that rave.yaml says. Durations are in seconds.

    `database` is what the file at `database_config_path` says; without that file the store is at `state_path`.
    `advice` says what to do about failures.
    `file` is where all of it stands, and `lines` says in which line, by the option's whole name (`tls.ca_file`).
    """

    identity: ClientIdentity
    servers: Servers
    tls: Tls
    proxy: Proxy | None = None
    connect_ports: tuple[int, ...]
    allow_addresses: tuple[str, ...]
    mesh_mode: str
    discovery_interval: float
    limit: int
    lang: str
    max_processes: int | None
    max_meshes_per_user: int | None
    starts_per_minute: int
    status_poll_interval: float
    process_restart_delay: float
    max_process_restarts: int
    shutdown_timeout: float
    watchdog: float
    max_connection_attempts: int
    connection_failure_window: float
    leave_when_alone: float
    blocklist_duration: float
    history_retention: float
    admins_by_chat: str
    hourly_changes_per_mesh: int
    hourly_changes: int
    blocklist_persist_path: Path
    credentials_path: Path
    state_path: Path
    database_config_path: Path
    command_prefix: tuple[str, ...]
    chat_form: str
    ignored_users: tuple[int, ...]
    typing_delay: float
    debug: bool
    unconfirmed_calls: UnconfirmedCalls = field(default_factory=UnconfirmedCalls)
    videos: VideoOptions = field(default_factory=VideoOptions)
    database: Database | None = None
    advice: Advice = field(default=FOR_SERVICE, repr=False, compare=False)
    file: str = field(default=names.CONFIG_FILE, compare=False)
    lines: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)

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
        """That of a child which is started now."""
        return Edition(__version__, digest(self.mesh_settings().to_json()))

    def media_settings(self) -> MediaSettings:
        """The part that the helper for videos is told, or the library in its place."""
        return MediaSettings.of(self.videos, self.tls, self.proxy, debug=self.debug)

    def mesh_settings(self) -> MeshSettings:
        """The part that a child is told. It does not log in, so it gets none of the keys for that."""
        identity = ClientIdentity(
            request_hash_key=self.identity.request_hash_key,
            user_agent=self.identity.user_agent,
            client_version=self.identity.client_version,
            app_build=self.identity.app_build,
        )
        return MeshSettings(
            identity=identity,
            servers=self.servers,
            tls=self.tls,
            proxy=self.proxy,
            connect_ports=self._all_ports(),
            lang=self.lang,
            command_prefix=self.command_prefix,
            chat_form=self.chat_form,
            ignored_users=self.ignored_users,
            typing_delay=self.typing_delay,
            max_connection_attempts=self.max_connection_attempts,
            connection_failure_window=self.connection_failure_window,
            leave_when_alone=self.leave_when_alone,
            watchdog=self.watchdog,
            debug=self.debug,
            unconfirmed_calls=self.unconfirmed_calls,
        )

    def _all_ports(self) -> tuple[int, ...]:
        """`connect_ports`, and the ports without which bots would reach nothing."""
        needed = {urlsplit(self.servers.api).port or HTTPS_PORT} | ({self.proxy.port} if self.proxy else set())
        return tuple(sorted({*self.connect_ports, *needed}))


def changes(before: Config, after: Config) -> list[str]:
    """The options whose values differ, by their names in rave.yaml, and `database.json` for what stands there."""
    found: list[str] = []
    for name in _differing(before, after):
        if section := _SECTIONS.get(name):
            found += [f"{section}.{key}" for key in _differing(getattr(before, name), getattr(after, name))]
        else:
            found.append("database.json" if name == "database" else name)
    # What the file at `tls.ca_file` holds is no option.
    return [name for name in found if name != "tls.authorities"]


def _differing(before: Any, after: Any) -> list[str]:
    """The fields of two objects of one dataclass that differ, of those that count."""
    fields = [each.name for each in dataclasses.fields(before) if each.compare]
    return [name for name in fields if getattr(before, name) != getattr(after, name)]


def load(path: str | Path, places: Places = _PLACES) -> Config:
    """Read the configuration file, and that of the database if there is one.

    Raises `RaveError` (Config); when there are several errors, the message holds a line for each.
    """
    config, problems = examine(path, places)
    if len(problems) == 1:
        raise problems[0]
    if problems or config is None:
        raise RaveError(Code.CONFIG, "\n".join(map(str, problems)), file=str(path))
    return config


def with_environment(settings: Config, environment: Mapping[str, str]) -> Config:
    """The same, with the proxy that the environment names when rave.yaml names none.

    Raises `RaveError` (Config) when that can't be used.
    """
    return settings if settings.proxy else dataclasses.replace(settings, proxy=proxy.from_environment(environment))


def examine(path: str | Path, places: Places = _PLACES) -> tuple[Config | None, list[RaveError]]:
    """The same with every error (Config), those of the database's file last.

    The configuration has the default in the place of each value that is wrong; None for what is not YAML.
    """
    try:
        text = text_file.decode(text_file.read(path, _MAX_FILE_BYTES))
    except FileNotFoundError:
        directory, file = shlex.quote(str(Path(path).parent)), shlex.quote(str(path))
        hint = places.advice.no_config.format(directory=directory, file=file)
        return None, [RaveError(Code.CONFIG, f"{path} does not exist", hint=hint, file=str(path))]
    except OSError as e:
        hint = places.advice.closed_config.format(file=shlex.quote(str(path)))
        return None, [RaveError(Code.CONFIG, f"{path} can't be read: {e.strerror}", hint=hint, file=str(path))]
    except RaveError as e:
        problem = f"{path} can't be read: it {e.message}"
        return None, [RaveError(Code.CONFIG, problem, hint=e.hint, file=str(path))]
    config, problems = _read(text, str(path), places)
    if config is None:
        return None, problems
    found, more = database.read(config.database_config_path, places.advice.closed_database)
    return dataclasses.replace(config, database=found), problems + more


def read(text: str, file: str) -> tuple[Config | None, list[RaveError]]:
    """Read the text of a configuration file: the configuration, without a database, or None and every error in it."""
    config, problems = _read(text, file, _PLACES)
    return (None if problems else config), problems


def _read(text: str, file: str, places: Places) -> tuple[Config | None, list[RaveError]]:
    """As `read`, but with the default in the place of each value that is wrong; None for what is not YAML."""
    problems: list[RaveError] = []
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as e:
        line, mistake, hint = _yaml_mistake(e)
        problem = f"{file}:{line}: this is not YAML: {mistake}"
        return None, [RaveError(Code.CONFIG, problem, hint=hint, file=file, line=line)]
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        problem = f"{file}:{line}: this is not YAML: a control character"
        return None, [RaveError(Code.CONFIG, problem, hint="delete it", file=file, line=line)]
    except (ValueError, OverflowError, RecursionError):
        # What PyYAML lets through, without a line, for impossible numbers and for brackets in brackets in brackets.
        hint = "look for a wrong escape such as \\UFFFFFFFF, and for hundreds of brackets"
        return None, [RaveError(Code.CONFIG, f"{file}: this is not YAML", hint=hint, file=file)]
    lines: dict[str, int] = {}
    config = _config(_Section(root, "", file, problems, lines), places)
    config = dataclasses.replace(config, advice=places.advice, file=file, lines=lines)
    problems.sort(key=lambda problem: int(problem.attributes["line"]))
    return config, problems


def _config(top: _Section, places: Places) -> Config:
    identity = top.section("client_identity")
    servers = top.section("servers")
    tls = top.section("tls")
    calls = top.section("unconfirmed_calls")
    videos = top.section("videos")
    config = Config(
        identity=ClientIdentity(**{key: identity.text(key, "") for key in ClientIdentity.__slots__}),
        servers=Servers(
            api=servers.url("api", DEFAULT_API),
            parse=servers.url("parse", "https://api.soborol.com/parse"),
            mojo=servers.url("mojo", "https://api.mojoauth.com"),
        ),
        tls=Tls(
            ca_file=tls.optional_path("ca_file"),
            insecure_hosts=tls.texts("insecure_hosts", ()),
        ),
        proxy=top.proxy("proxy", top.texts("no_proxy", ())),
        connect_ports=top.ports("connect_ports", (HTTPS_PORT,)),
        allow_addresses=top.networks("allow_addresses"),
        mesh_mode=top.choice("mesh_mode", "invited", MESH_MODES),
        discovery_interval=top.duration("discovery_interval", 60.0, least=1),
        limit=top.integer("limit", 20, least=1, most=100),
        lang=top.text("lang", "en"),
        max_processes=top.integer_or_auto("max_processes", machine.bots_that_fit, least=0) or None,
        max_meshes_per_user=top.integer("max_meshes_per_user", 20, least=0) or None,
        starts_per_minute=top.integer("starts_per_minute", 300, least=0),
        process_restart_delay=top.duration("process_restart_delay", 5.0, least=0.1),
        status_poll_interval=top.duration("status_poll_interval", 30.0, least=1),
        max_process_restarts=top.integer("max_process_restarts", 5, least=1, most=1000),
        shutdown_timeout=top.duration("shutdown_timeout", 10.0, least=1),
        watchdog=top.duration("watchdog", 30.0, least=5),
        max_connection_attempts=top.integer("max_connection_attempts", 3, least=1),
        connection_failure_window=top.duration("connection_failure_window", 120.0, least=0, most=86400),
        leave_when_alone=top.duration("leave_when_alone", 180.0, least=0, most=86400),
        blocklist_duration=top.duration("blocklist_duration", 3600.0, least=1),
        history_retention=top.duration("history_retention", 90 * 86400.0, least=0),
        admins_by_chat=top.choice("admins_by_chat", ADMINS, (ADMINS, OWNERS)),
        hourly_changes_per_mesh=top.integer("hourly_changes_per_mesh", 10, least=1, most=1000),
        hourly_changes=top.integer("hourly_changes", 30, least=1, most=1000),
        blocklist_persist_path=top.path("blocklist_persist_path", places.state / "blocklist.json"),
        credentials_path=top.path("credentials_path", places.state / "credentials.json"),
        state_path=top.path("state_path", places.state / "state.db"),
        database_config_path=top.path("database_config_path", places.database),
        command_prefix=top.texts("command_prefix", ("?", "!")),
        chat_form=top.choice("chat_form", AUTO, CHAT_FORMS),
        ignored_users=top.user_ids("ignored_users"),
        typing_delay=top.duration("typing_delay", 1.0, least=0, most=60),
        debug=top.boolean("debug", default=False),
        unconfirmed_calls=_unconfirmed_calls(calls),
        videos=_videos(videos, places),
    )
    for section in (top, identity, servers, tls, calls, videos):
        section.refuse_unknown()
    return config


def _videos(section: _Section, places: Places) -> VideoOptions:
    usual = VideoOptions()
    return VideoOptions(
        providers=section.choices("providers", usual.providers, PROVIDERS),
        youtube_key_path=places.youtube_key,
        youtube_api=section.url("youtube_api", usual.youtube_api),
        youtube_oembed=section.url("youtube_oembed", usual.youtube_oembed),
        picture_hosts=section.hosts("picture_hosts", usual.picture_hosts),
        youtube_searches_per_day=section.integer("youtube_searches_per_day", usual.youtube_searches_per_day, least=1),
        searches_per_user=section.integer("searches_per_user", usual.searches_per_user, least=1),
        searches_per_room=section.integer("searches_per_room", usual.searches_per_room, least=1),
        searches_per_host=section.integer("searches_per_host", usual.searches_per_host, least=1),
    )


def _unconfirmed_calls(section: _Section) -> UnconfirmedCalls:
    usual = UnconfirmedCalls()
    return UnconfirmedCalls(
        playback=section.boolean("playback", default=usual.playback),
        end_video=section.boolean("end_video", default=usual.end_video),
        clear_votes=section.boolean("clear_votes", default=usual.clear_votes),
        other_providers=section.boolean("other_providers", default=usual.other_providers),
        profiles=section.boolean("profiles", default=usual.profiles),
        vote_time=section.choice("vote_time", usual.vote_time, VOTE_TIMES),
        video_host=section.choice("video_host", usual.video_host, VIDEO_HOSTS),
    )


class _Section:
    """One mapping of the file; each getter takes a key out of it, and notes what is wrong with its value."""

    def __init__(
        self, node: yaml.Node | None, name: str, file: str, problems: list[RaveError], lines: dict[str, int]
    ) -> None:
        """`lines` is filled with the line of each key that is taken."""
        self._name = name
        self._file = file
        self._problems = problems
        self._lines = lines
        self._nodes: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        self._known: list[str] = []
        if node is None or _is_null(node):
            return
        if not isinstance(node, yaml.MappingNode):
            self._problem(node, name or "the file", "must be a list of `key: value` lines")
            return
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, name or "the file", "has a key that is not a word")
                continue
            if key.value in self._nodes:
                self._problem(key, self._path(key.value), "stands here twice", hint="delete one of the two")
            self._nodes[key.value] = (key, value)

    def section(self, key: str) -> _Section:
        """A mapping inside this one."""
        node = self._take(key)
        return _Section(node, self._path(key), self._file, self._problems, self._lines)

    def text(self, key: str, default: str) -> str:
        """A text on one line."""
        return self._scalar(key, default, _printable, "a text on one line, without control characters")

    def choice(self, key: str, default: str, allowed: Iterable[str]) -> str:
        """One of several words."""

        def parse(text: str) -> str:
            if text not in allowed:
                raise ValueError(text)
            return text

        return self._scalar(key, default, parse, "one of " + ", ".join(allowed))

    def choices(self, key: str, default: tuple[str, ...], allowed: Iterable[str]) -> tuple[str, ...]:
        """A list of several words, each once; it may not be empty."""
        chosen = self.texts(key, default)
        if not set(chosen) <= set(allowed):
            self._problem(self._nodes[key][1], self._path(key), f"must be a list of {', '.join(allowed)}")
            return default
        return tuple(dict.fromkeys(chosen))

    def hosts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A list of host names, each with a port or without."""
        chosen = self.texts(key, default)
        if not all(_HOST.fullmatch(host) for host in chosen):
            self._problem(self._nodes[key][1], self._path(key), "must be a list of host names")
            return default
        return chosen

    def integer(self, key: str, default: int, *, least: int, most: int = 1_000_000) -> int:
        """A whole number within bounds, both included."""
        wanted = f"a whole number from {least} to {most}"
        return self._scalar(key, default, lambda text: _within(int(text), least, most), wanted)

    def integer_or_auto(self, key: str, auto: Callable[[], int], *, least: int, most: int = 1_000_000) -> int:
        """A whole number within bounds, both included, or what `auto` returns for the word "auto", the default."""
        wanted = f"{AUTO} or a whole number from {least} to {most}"
        found = self._scalar(
            key, None, lambda text: None if text == AUTO else _within(int(text), least, most), wanted
        )
        return auto() if found is None else found

    def duration(self, key: str, default: float, *, least: float, most: float = 366 * 86400) -> float:
        """A time span within bounds, in seconds."""
        wanted = f"a time span such as 5s, 10min or 1h, from {least:g}s to {most:.0f}s"
        return self._scalar(key, default, lambda text: _within(timespan.parse(text), least, most), wanted)

    def boolean(self, key: str, *, default: bool) -> bool:
        """true or false."""
        return self._scalar(key, default, _boolean, "true or false")

    def path(self, key: str, default: Path) -> Path:
        """An absolute path."""
        return self._scalar(key, default, _absolute, "an absolute path")

    def optional_path(self, key: str) -> str | None:
        """An absolute path, or None when it is absent."""
        return self._scalar(key, None, lambda text: str(_absolute(text)), "an absolute path")

    def url(self, key: str, default: str) -> str:
        """A base URL; a slash at its end is dropped."""
        return self._scalar(key, default, _base_url, "a URL such as https://host/path")

    def proxy(self, key: str, bypass: tuple[str, ...]) -> Proxy | None:
        """The proxy that a URL names, or None when it is absent; what is wrong is told without the URL."""
        node = self._take(key)
        if node is None or _is_null(node):
            return None
        try:
            return proxy.parse(node.value if isinstance(node, yaml.ScalarNode) else "", bypass)
        except ValueError as e:
            self._problem(node, self._path(key), str(e))
            return None

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A list of texts that are not empty, or a single one. The list may be empty only if the default is."""
        node = self._take(key)
        if node is None or _is_null(node):
            return default
        entries = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not all(
            isinstance(entry, yaml.ScalarNode) and entry.value and entry.value.isprintable() for entry in entries
        ) or (default and not entries):
            self._problem(node, self._path(key), "must be a list of texts", hint=f'write it as {key}: ["a", "b"]')
            return default
        return tuple(entry.value for entry in entries)

    def ports(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """A list of ports, or a single one; each once, in order."""
        chosen = self.texts(key, tuple(map(str, default)))
        if not all(port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536 for port in chosen):
            self._problem(
                self._nodes[key][1], self._path(key), "must be a list of ports", hint=f"write it as {key}: [443]"
            )
            return default
        return tuple(sorted({int(port) for port in chosen}))

    def networks(self, key: str) -> tuple[str, ...]:
        """A list of IP addresses and networks, or a single one; each once, as `address/prefix`."""
        try:
            return tuple(dict.fromkeys(str(ipaddress.ip_network(text, strict=False)) for text in self.texts(key, ())))
        except ValueError:
            hint = f"write it as {key}: [10.1.0.0/16]"
            self._problem(self._nodes[key][1], self._path(key), "must be a list of addresses and networks", hint=hint)
            return ()

    def user_ids(self, key: str) -> tuple[int, ...]:
        """A list of user ids, or a single one; each once, in order."""
        node = self._take(key)
        if node is None or _is_null(node):
            return ()
        entries = node.value if isinstance(node, yaml.SequenceNode) else [node]
        ids = [as_user_id(entry.value) if isinstance(entry, yaml.ScalarNode) else None for entry in entries]
        if None in ids:
            self._problem(node, self._path(key), "must be a list of user ids", hint=f"write it as {key}: [900000001]")
            return ()
        return tuple(sorted({number for number in ids if number is not None}))

    def refuse_unknown(self) -> None:
        """Note every key that no getter asked for."""
        for name, (key, _) in self._nodes.items():
            if name not in self._known:
                close = nearest(name, self._known)
                hint = f"did you mean {close}?" if close else "known here: " + ", ".join(self._known)
                self._problem(key, self._path(name), "is not an option", hint=hint)

    def _take(self, key: str) -> yaml.Node | None:
        self._known.append(key)
        found = self._nodes.get(key)
        if found is None:
            return None
        self._lines[self._path(key)] = found[0].start_mark.line + 1
        if _is_bare_tag(found[1]):
            self._problem(
                found[1], self._path(key), "begins with ! and is not quoted", hint=f'write it as {key}: "!"'
            )
        return found[1]

    def _scalar(self, key: str, default: T, parse: Callable[[str], T], wanted: str) -> T:
        node = self._take(key)
        if node is None or _is_null(node):
            return default
        try:
            if isinstance(node, yaml.ScalarNode):
                return parse(node.value)
        except ValueError:
            pass
        self._problem(node, self._path(key), f"must be {wanted}")
        return default

    def _problem(self, node: yaml.Node, where: str, message: str, *, hint: str = "") -> None:
        line = node.start_mark.line + 1
        text = f"{self._file}:{line}: {where} {message}"
        self._problems.append(RaveError(Code.CONFIG, text, hint=hint, file=self._file, line=line, key=where))

    def _path(self, key: str) -> str:
        # Without a space behind its colon a value is part of the key: {request_hash_key:secret}.
        name = printable(key.partition(":")[0], 40) or "an empty key"
        return f"{self._name}.{name}" if self._name else name


def _yaml_mistake(error: yaml.MarkedYAMLError) -> tuple[int, str, str]:
    """The line of a mistake, what is wrong there, and how to correct it. PyYAML's words quote no value here.

    It notices some mistakes only on a later line: it then names the right one as that of the context.
    """
    problem = _QUOTED_NAME.sub("", error.problem or "")
    found = error.problem_mark.line + 1 if error.problem_mark else 1
    began = error.context_mark.line + 1 if error.context_mark else found
    if problem == "could not find expected ':'":
        return began, "a colon is missing, or the space after it", "write it as key: value"
    if problem == "found unexpected end of stream" and "quoted scalar" in (error.context or ""):
        return began, "a quote is not closed", "close it on the same line"
    if problem.startswith(("expected <block end>", "expected '<document start>'")):
        return found, problem, "indent it as the lines around it, and close the quotes above it"
    if problem == "mapping values are not allowed here":
        return found, problem, "write one key: value on a line, all of a section equally indented"
    if "\\t" in (error.problem or ""):
        return found, "a tab", "indent with spaces"
    return found, problem, "quote a text that begins with one of ? ! * & % @ -"


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _is_bare_tag(node: yaml.Node) -> bool:
    """Whether the file has an exclamation mark there, which YAML takes for the type of a value that is left out."""
    start, end = node.start_mark, node.end_mark
    return _is_null(node) and start.buffer is not None and start.buffer[start.pointer : end.pointer].startswith("!")


def _within(value: T, least: float, most: float) -> T:
    if not least <= value <= most:  # type: ignore[operator]
        raise ValueError(value)
    return value


def _boolean(text: str) -> bool:
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(text)
    return text


def _absolute(text: str) -> Path:
    path = Path(_printable(text))
    if not path.is_absolute():
        raise ValueError(text)
    return path


def _base_url(text: str) -> str:
    url = urlsplit(_printable(text))
    # Reading .port raises ValueError for a bad one.
    if url.scheme != "https" or not url.hostname or url.port == 0 or not _NOT_IN_BASE_URL.isdisjoint(text):
        raise ValueError(text)
    return text.rstrip("/")
