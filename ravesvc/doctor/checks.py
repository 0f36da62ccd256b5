"""Evaluate the facts about a machine. Pure: each function takes facts from `machine` and returns a finding."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from xml.etree import ElementTree

from ravesvc.api.refusal import MAX_CLOCK_SKEW_S
from ravesvc.common.machine import BYTES_PER_BOT, bots_that_fit
from ravesvc.common.text import count
from ravesvc.doctor.finding import Finding, held, not_held, unknown
from ravesvc.mesh.confinement import LANDLOCK_SCOPES, LANDLOCK_TCP

# dbus-daemon(1) has this in the configuration of the system bus, for each user.
STOCK_BUS_LIMIT = 256
# A limit has 32 bits.
_MAX_DIGITS = 10
# The bots' user needs a few connections more than bots: a bot that restarts has two until the old one has ended.
SPARE_CONNECTIONS = 8
# A resolver that takes longer is slow: bots resolve the name at each new connection.
SLOW_RESOLVER_S = 2.0


def clock(skew_s: float | None, *, synchronized: bool | None) -> Finding:
    """The clock, because the signature of each request contains the time.

    Args:
        skew_s: seconds by which it is ahead of Rave's; None if Rave did not answer.
        synchronized: whether the clock is synchronized, according to the kernel; None if the kernel does not say.
    """
    name, hint = "clock", "timedatectl shows how the clock is kept; install systemd-timesyncd or chrony"
    if skew_s is not None and abs(skew_s) > MAX_CLOCK_SKEW_S:
        side = "ahead of" if skew_s > 0 else "behind"
        why = f"{abs(skew_s):.0f} s {side} Rave's; Rave refuses requests with a wrong time"
        return not_held(name, why, hint, fatal=True)
    right = (
        "Rave could not be asked for the time" if skew_s is None else f"it is within {abs(skew_s):.0f} s of Rave's"
    )
    if synchronized is None:
        return unknown(name, f"the kernel does not say whether NTP keeps it; {right}", hint)
    if not synchronized:
        return not_held(name, f"no NTP keeps it; {right}", hint)
    return held(name, f"NTP keeps it; {right}")


def resolver(host: str, addresses: int, seconds: float, error: str) -> Finding:
    """Resolving the name of a host: the number of addresses, the duration, and the error, empty for none."""
    name = "DNS"
    hint = f"getent ahosts {host} asks the same question; /etc/resolv.conf names the servers that answer it"
    if error or not addresses:
        return not_held(name, f"{host} can't be looked up: {error or 'it has no address'}", hint, fatal=True)
    if seconds > SLOW_RESOLVER_S:
        return not_held(name, f"{host} was looked up, but that took {seconds:.1f} s", hint)
    return held(name, f"{host} has {count(addresses, 'address')}")


def families(host: str, attempts: Mapping[str, str]) -> list[Finding]:
    """IPv4 and IPv6 each, by the outcome of a connection to `host`: empty, or why there was none.

    A family in which the host has no address is missing in `attempts`.
    """
    works = [family for family, error in attempts.items() if not error]
    return [_family(host, family, attempts.get(family), works) for family in ("IPv4", "IPv6")]


def _family(host: str, family: str, error: str | None, works: Sequence[str]) -> Finding:
    if error is None:
        return held(family, f"not needed: {host} has no address of it")
    if not error:
        return held(family, f"{host} can be reached")
    why = f"{host} can't be reached: {error}"
    if not works:
        hint = "a firewall or the route is in the way; where there is a proxy, name it in rave.yaml (proxy)"
        return not_held(family, why, hint, fatal=True)
    hint = f"fix the route, or switch {family} off; {works[0]} works, but bots try both"
    return not_held(family, why, hint)


def rave(host: str, error: str, hint: str) -> Finding:
    """Rave's server: why it did not answer, or empty."""
    if error:
        return not_held("Rave", error, hint or "where there is a proxy, name it in rave.yaml (proxy)", fatal=True)
    return held("Rave", f"{host} answers over TLS")


def bus_limit(documents: Iterable[str]) -> int:
    """The connections that one user may have, by the configuration files of the system bus in their order."""
    limit = STOCK_BUS_LIMIT
    for document in documents:
        try:
            root = ElementTree.fromstring(document)  # noqa: S314 - root's own files, which the bus has read
        except ElementTree.ParseError:
            # The bus ignores it as well, and logs that.
            continue
        for element in root.iter("limit"):
            text = (element.text or "").strip()
            if element.get("name") == "max_connections_per_user" and text.isdecimal() and len(text) <= _MAX_DIGITS:
                limit = int(text)
    return limit


def bus(limit: int, max_processes: int | None) -> Finding:
    """Whether the message bus allows a connection for each bot."""
    name, bots = "bus", limit - SPARE_CONNECTIONS
    if max_processes is not None and max_processes > bots:
        hint = "raise max_connections_per_user in /etc/dbus-1/system-local.conf, or lower max_processes"
        why = f"{count(limit, 'connection')} per user, too few for max_processes of {max_processes}"
        return not_held(name, why, hint)
    return held(name, f"{count(limit, 'connection')} per user: room for {count(bots, 'bot')}")


def memory(total: int, max_processes: int | None) -> Finding:
    """Whether the machine's memory, in bytes, is enough for `max_processes` bots; None is no limit."""
    name = "memory"
    bots = bots_that_fit(total)
    room = f"{total >> 20} MB, room for {count(bots, 'bot')} of {BYTES_PER_BOT >> 20} MB"
    if max_processes is None:
        return held(name, f"{room}; max_processes sets no limit")
    if max_processes > bots:
        return not_held(name, f"{room}, but max_processes is {max_processes}", f"set max_processes to {bots} or less")
    return held(name, f"{room}; max_processes is {max_processes}")


def controllers(present: Collection[str] | None) -> Finding:
    """Whether the kernel can enforce the limits of the bots' units, by the controllers of their control group."""
    name = "unit limits"
    if present is None:
        return unknown(name, "the control groups can't be read")
    rules = {"memory": "MemoryMax=", "pids": "TasksMax="}
    if lacking := [
        f"{rule} (no {controller} controller)" for controller, rule in rules.items() if controller not in present
    ]:
        where = "a container gets them from its host, some boards by booting with cgroup_enable=memory"
        hint = f"{where}; until then one bot can starve the others"
        return not_held(name, f"not carried out here: {', '.join(lacking)}", hint)
    return held(name, "MemoryMax= and TasksMax= are carried out")


def bpf(*, works: bool | None) -> Finding:
    """Whether systemd can deny bots addresses (IPAddressDeny=); `works` is None if that could not be tried."""
    name = "BPF"
    if works is None:
        return unknown(name, "only root can try it", "sudo ravectl doctor")
    if not works:
        hint = "in a container, have the host allow the system call bpf; until then bots reach what is near them"
        return not_held(name, "the kernel has none, or does not allow it", hint)
    return held(name, "IPAddressDeny= is carried out")


def landlock(version: int | None) -> Finding:
    """Whether the kernel has the Landlock that a bot's own sandbox needs: its version, None for no Landlock."""
    name = "Landlock"
    hint = "boot with a kernel of 6.12 or later; in a container, have the host allow the system calls landlock_*"
    if version is None:
        return not_held(name, "the kernel has none, or does not allow it", hint)
    if version < LANDLOCK_SCOPES:
        lacking = "no rules for signals" if version >= LANDLOCK_TCP else "no rules for TCP and signals"
        return not_held(name, f"version {version}: {lacking}", hint)
    return held(name, f"version {version}")
