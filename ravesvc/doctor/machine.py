"""Gather facts about this machine for `checks` to evaluate. Needs no rights but to read rave.yaml."""

from __future__ import annotations

import asyncio
import ctypes
import os
import platform
import socket
import struct
import time
from collections.abc import Iterable
from email.utils import mktime_tz, parsedate_tz
from pathlib import Path
from urllib.parse import urlsplit

from ravesvc import names
from ravesvc.api import dial, transport
from ravesvc.api.transport import HttpRequest
from ravesvc.common.machine import memory_bytes
from ravesvc.common.text import count
from ravesvc.config import proxy as proxies
from ravesvc.config import rave_yaml
from ravesvc.config.options import Config
from ravesvc.doctor import checks
from ravesvc.doctor.finding import Finding, not_held, unknown
from ravesvc.doctor.systemctl import service_environment
from ravesvc.errors import RaveError
from ravesvc.mesh.confinement import landlock_version
from ravesvc.setup.check import check

# For a request to Rave, and for a connection to one address.
_REQUEST_TIMEOUT_S, _CONNECT_TIMEOUT_S = 10.0, 4.0
# What adjtimex(2) returns while the clock is not synchronized, and a size that its structure does not exceed.
_TIME_ERROR, _TIMEX_BYTES = 5, 1024
# bpf(2): a table of networks, of which each entry has 8 bytes as key and as value.
_BPF_MAP_CREATE, _BPF_LPM_TRIE, _BPF_NO_PREALLOC = 0, 11, 1
_FAMILIES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
_CGROUPS = Path("/sys/fs/cgroup")
# In the order in which the bus reads them; a later limit overrides an earlier one.
_BUS_CONFIG_PATTERNS = (
    "usr/share/dbus-1/system.conf",
    "usr/share/dbus-1/system.d/*.conf",
    "etc/dbus-1/system.conf",
    "etc/dbus-1/system.d/*.conf",
    "etc/dbus-1/system-local.conf",
)


def examine(file: str) -> list[Finding]:
    """All findings about this machine, with the rave.yaml at `file`; takes half a minute when nothing answers."""
    return [
        *_check_configuration(file),
        checks.controllers(_read_controllers()),
        checks.landlock(landlock_version()),
        checks.bpf(works=_can_create_bpf_map() if os.geteuid() == 0 else None),
    ]


def _check_configuration(file: str) -> list[Finding]:
    """What depends on the configuration."""
    settings, problems = check(file)
    if settings is None:
        why = str(problems[0]) if len(problems) == 1 else count(len(problems), "mistake")
        hint = (
            f"ravectl config check {file} names each; time, network, bus and memory are checked when there are none"
        )
        return [not_held("rave.yaml", why, hint, fatal=True)]
    try:
        settings = rave_yaml.with_environment(settings, service_environment())
    except RaveError as e:
        hint = f"{e.hint} (systemctl edit {names.ORCHESTRATOR_UNIT})"
        return [not_held("proxy", e.message, hint, fatal=True)]
    return [
        *asyncio.run(_check_network(settings)),
        checks.bus(checks.bus_limit(_read_bus_files(Path("/"))), settings.max_processes),
        checks.memory(memory_bytes(), settings.max_processes),
    ]


async def _check_network(settings: Config) -> list[Finding]:
    url = urlsplit(settings.servers.api)
    host, port = url.hostname or "", url.port or 443
    proxy = settings.proxy
    first = (host, port) if proxy is None or proxies.bypasses(proxy, host, port) else (proxy.host, proxy.port)
    began = time.monotonic()
    try:
        addresses, error = await dial.resolve(*first), ""
    except OSError as e:
        addresses, error = [], dial.reason(e)
    found = [checks.resolver(first[0], len(addresses), time.monotonic() - began, error)]
    if not addresses:
        found.append(unknown("Rave", "not tried: there is no address to connect to"))
        return [*found, checks.clock(None, synchronized=_synchronized())]
    found += checks.families(first[0], await _connect_by_family(addresses))
    try:
        date = await _fetch_date(settings)
        found.append(checks.rave(host, "", ""))
        skew = _clock_skew_s(date, time.time())
    except RaveError as e:
        found.append(checks.rave(host, e.message, e.hint))
        skew = None
    return [*found, checks.clock(skew, synchronized=_synchronized())]


async def _connect_by_family(addresses: Iterable[tuple[socket.AddressFamily, tuple[object, ...]]]) -> dict[str, str]:
    """Why no address of a family takes a connection, by family; empty if one does."""
    outcome: dict[str, str] = {}
    for family, address in addresses:
        name = _FAMILIES.get(family, "")
        if name and outcome.get(name) != "":
            outcome[name] = await asyncio.to_thread(_connect, family, address)
    return outcome


def _connect(family: socket.AddressFamily, address: tuple[object, ...]) -> str:
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.settimeout(_CONNECT_TIMEOUT_S)
        try:
            made.connect(address)
        except TimeoutError:
            return f"no answer within {_CONNECT_TIMEOUT_S:g} s"
        except OSError as e:
            return dial.reason(e)
    return ""


async def _fetch_date(settings: Config) -> str | None:
    """The Date header of Rave's server, from an answer of any status; raises `RaveError` if there is no answer."""
    line, base = transport.to_base(
        settings.servers.api, "servers.api", settings.tls, settings.proxy, _REQUEST_TIMEOUT_S
    )
    try:
        return (await line.send(HttpRequest("GET", f"{base}/", {}, None, transport.LIST_ANSWER_BYTES))).date
    finally:
        line.close()


def _clock_skew_s(date: str | None, now: float) -> float | None:
    """Seconds by which `now` is ahead of a Date header; None if it is missing or can't be parsed."""
    parsed = parsedate_tz(date) if date else None
    try:
        return now - mktime_tz(parsed) if parsed else None
    except (ValueError, OverflowError):
        return None


def _synchronized() -> bool | None:
    """Whether the clock is synchronized, according to the kernel; None if the kernel does not say."""
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return None if state < 0 else state != _TIME_ERROR


def _can_create_bpf_map() -> bool:
    """Whether the kernel lets root create a map such as systemd uses for IPAddressDeny=; root only."""
    number = {"x86_64": 321}.get(platform.machine(), 280)
    packed = struct.pack("5I", _BPF_LPM_TRIE, 8, 8, 1, _BPF_NO_PREALLOC)
    attributes = ctypes.create_string_buffer(packed, len(packed))
    libc = ctypes.CDLL(None)
    descriptor = int(libc.syscall(ctypes.c_long(number), _BPF_MAP_CREATE, attributes, len(attributes)))
    if descriptor >= 0:
        os.close(descriptor)
    return descriptor >= 0


def _read_controllers() -> set[str] | None:
    try:
        return set((_CGROUPS / "cgroup.controllers").read_text(encoding="ascii").split())
    except OSError:
        return None


def _read_bus_files(root: Path) -> list[str]:
    """The texts of the configuration files of the bus, in the order in which the bus reads them."""
    found = []
    for pattern in _BUS_CONFIG_PATTERNS:
        for path in sorted(root.glob(pattern)):
            try:
                found.append(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError):
                continue
    return found
