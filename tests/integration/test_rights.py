"""Who may do what: forged signals, the rights of the user rave, callers without rights, secrets."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator

import pytest
from testbed.machine import CommandFailed

from ravesvc import names
from tests.integration.conftest import CHECKOUT, Site, eventually

SYSTEMD = [
    "busctl",
    "call",
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
]
STRANGER = "33333333-2222-4333-8444-555555555555"
# An interval of discovery. A round stops what runs for STRANGER, which no listing names, maybe while it still starts.
NO_ROUND = "10min"
FORGER = (CHECKOUT / "tests" / "integration" / "forger.py").read_text()


_OWN = """
import asyncio, sys
from ravesvc.bus import Bus
async def main():
    bus = await Bus.connect()
    try:
        await bus.request_name(sys.argv[1])
    finally:
        await bus.close()
asyncio.run(main())
"""


def test_who_may_read_may_not_operate(shared_site: Site) -> None:
    (mesh,) = shared_site.run_fleet(1)
    watcher = shared_site.watcher()
    assert mesh in shared_site.call("ListMeshes", user=watcher)
    assert mesh in shared_site.sh("ravectl list", user=watcher)
    before = shared_site.permissions("Admins"), shared_site.permissions("Permissions")
    refused: list[tuple[str, list[str]]] = [
        *(("StopMesh", ["s", mesh]), ("StartMesh", ["s", mesh]), ("Discover", []), ("Refresh", [])),
        *(("Login", ["s", "nobody@example.test"]), ("CancelLogin", []), ("Logout", [])),
        ("Export", []),
        *(("AddAdmin", ["t", "1"]), ("RemoveAdmin", ["t", "1"])),
        *(("IgnoreUser", ["t", "1"]), ("UnignoreUser", ["t", "1"]), ("ForgetUser", ["t", "1"])),
        *(("SetPermission", ["sb", "ping", "true"]), ("RemovePermission", ["s", "ping"])),
        ("UndoChatChange", ["t", "1"]),
    ]
    for member, arguments in refused:
        for user in (watcher, "rave-mesh"):
            with pytest.raises(CommandFailed, match="Access denied"):
                shared_site.call(member, *arguments, user=user)
    assert (shared_site.permissions("Admins"), shared_site.permissions("Permissions")) == before
    worker = [names.worker_name(mesh), names.worker_path(mesh), names.WORKER_INTERFACE]
    for user in (watcher, "rave-mesh"):
        with pytest.raises(CommandFailed, match=r"(?i)access denied|rejected"):
            shared_site.machine.run(["busctl", "call", *worker, "RestartConnection"], user=user)
        with pytest.raises(CommandFailed, match=r"(?i)access denied|denied|not allowed|rejected"):
            shared_site.machine.run(["python3", "-I", "-c", _OWN, names.BUS_NAME], user=user)
    assert shared_site.answers(mesh)


@pytest.mark.parametrize("user", ["nobody", "rave-simulator", "rave-mesh"])
def test_the_bus_drops_what_strangers_ask(shared_site: Site, user: str) -> None:
    shared_site.run_fleet(1)
    for member in ("ListMeshes", "NoSuchMember"):
        with pytest.raises(CommandFailed, match=r"(?i)access denied|rejected"):
            shared_site.call(member, user=user)
    properties = [names.BUS_NAME, names.MANAGER_PATH, "org.freedesktop.DBus.Properties"]
    with pytest.raises(CommandFailed, match=r"(?i)access denied|rejected"):
        shared_site.machine.run(["busctl", "call", *properties, "GetAll", "s", ""], user=user)
    assert "group" in shared_site.sh("ravectl status", user=user, check=False)


BACKEND = ["busctl", "call", names.BUS_NAME, names.BACKEND_PATH, names.BACKEND_INTERFACE]


@pytest.mark.parametrize("user", ["nobody", "rave-simulator", "rave-mesh", None])
def test_only_bots_may_ask_the_backend(shared_site: Site, user: str | None) -> None:
    """Not even root, and not a process of the bots's user that is no bot."""
    shared_site.run_fleet(1)
    shared_site.sh("ravectl admin add 100000001")
    for call in (
        ["GetCredentials"],
        ["GetAdmins"],
        ["AddAdmin", "tt", "100000001", "5"],
        ["IgnoreUser", "tt", "100000001", "5"],
        ["Relogin", "t", "100000001"],
        ["ReadDocument", "s", "queue"],
        ["WriteDocument", "ss", "queue", "{}"],
        ["ReadShared", "s", "plugin-x"],
        ["WriteShared", "sss", "plugin-x", "{}", ""],
        ["ForgetUser", "t", "5"],
    ):
        with pytest.raises(CommandFailed, match=r"(?i)access denied|denied|rejected"):
            shared_site.machine.run([*BACKEND, *call], user=user)
    assert shared_site.permissions("Admins") == 1
    assert shared_site.control.state()["mail"]["sent"] == 0


def test_files_with_secrets_are_for_their_owners(shared_site: Site) -> None:
    shared_site.run_fleet(1)
    for path in (
        "/run/rave/session.json",
        "/run/rave/settings.json",
        "/run/rave/media.json",
        "/etc/rave/rave.yaml",
        "/var/lib/rave/credentials.json",
        "/var/lib/rave/state.db",
    ):
        shared_site.sh(f"test -s {path}")
        for user in ("nobody", "rave-mesh"):
            with pytest.raises(CommandFailed):
                shared_site.machine.run(["cat", path], user=user)


def test_a_stranger_can_not_burden_us(shared_site: Site) -> None:
    """Signals that are sent to one program need no leave, and to unpack one of these takes long."""
    (mesh,) = shared_site.run_fleet(1)
    burden_with_signals(shared_site, mesh)
    assert mesh in shared_site.call("ListMeshes")
    assert shared_site.answers(mesh)


@pytest.mark.parametrize("user", ["nobody", "rave-mesh", "rave-simulator"])
def test_a_forged_signal_changes_nothing(site: Site, user: str) -> None:
    mesh, other = meshes = site.run_fleet(2)
    pids, connections = site.pids(meshes), site.control.connections()
    with site.machine.spawn(["python3", "-I", "-c", FORGER, mesh], user=user) as forger:
        try:
            assert forger.stdout
            assert forger.stdout.readline() == "said it all\n"
            if user == "rave-mesh":
                # The others' signals are not even let through by the bus.
                eventually(
                    lambda: f"A signal for mesh {mesh} is ignored: it came from unit" in _journal(site),
                    "the forgery is noticed",
                )
        finally:
            os.killpg(forger.pid, signal.SIGKILL)
    # A true signal of the same mesh, sent after the forged ones, has been heard when this is over.
    _reconnect(site, mesh, connections[mesh])
    site.wait_state(meshes, "connected")
    assert site.pids(meshes) == pids
    assert site.control.connections()[other] == connections[other]
    assert site.sh("cat /var/lib/rave/blocklist.json 2>/dev/null || echo none").strip() == "none"


def test_one_bot_can_not_speak_for_another(site: Site) -> None:
    """From within a unit of the fleet, as its user."""
    site.configure(NO_ROUND)
    mesh, other = meshes = site.run_fleet(2)
    connections = site.control.connections()
    with inside_a_bot(site, FORGER, mesh):
        eventually(lambda: f"came from unit rave-mesh@{STRANGER}.service" in _journal(site), "the forgery is noticed")
    _reconnect(site, mesh, connections[mesh])
    site.wait_state(meshes, "connected")
    assert site.control.connections()[other] == connections[other]


@contextlib.contextmanager
def inside_a_bot(site: Site, script: str, *arguments: str, mesh: str = STRANGER) -> Iterator[None]:
    """Let a bot of a mesh that is none be a script of ours: its user, its unit, its sandbox. Takes `NO_ROUND`."""
    file = "/var/tmp/bot.py"
    drop_in = "/run/systemd/system/rave-mesh@.service.d/99-test.conf"
    # Its own directory for temporary files is empty.
    words = f"ExecStart=\nExecStart=/usr/bin/python3 -I {file} {' '.join(arguments)}\nPrivateTmp=no\n"
    site.machine.run(["tee", file], input=script)
    site.machine.run(["tee", drop_in], input=f"[Service]\n{words}")
    try:
        site.sh(f"systemctl daemon-reload; systemctl start rave-mesh@{mesh}")
        yield
    finally:
        site.sh(f"systemctl kill -s KILL rave-mesh@{mesh} || true; systemctl stop rave-mesh@{mesh}")
        site.sh(f"rm {drop_in} {file}; systemctl daemon-reload")


KILLER = """
import os, sys
from ravesvc.systemd.notify import notify
for pid in (int(sys.argv[1]), -1):
    for signal in (0, 9):
        try:
            os.kill(pid, signal)
        except OSError as e:
            print(e.strerror, flush=True)
        else:
            print("a bot can signal others", flush=True)
notify("READY=1")
import time; time.sleep(60)
"""


def test_one_bot_can_not_kill_another(site: Site) -> None:
    site.configure(NO_ROUND)
    (mesh,) = site.run_fleet(1)
    pids = site.pids([mesh])
    with inside_a_bot(site, KILLER, pids[mesh]):
        said = site.machine.journal("-t", f"rave-mesh@{STRANGER}", "-o", "cat")
    assert "Operation not permitted" in said
    assert "a bot can signal others" not in said
    assert site.pids([mesh]) == pids


def test_a_title_gives_no_orders_to_systemd(site: Site) -> None:
    """The user who sets the title of a video writes into the bot's status."""
    # To systemd a backslash quotes what follows; at the end of a message it has the whole message dropped.
    (mesh,) = site.control.create(title="film\rWATCHDOG=trigger\nSTOPPING=1\033[41m\\")
    site.control.invite(mesh)
    site.sh("systemctl start rave-orchestrator")
    site.wait_state([mesh], "connected")
    shown = "film?WATCHDOG=trigger?STOPPING=1?[41m\\"
    eventually(lambda: shown in site.unit(mesh, "StatusText"), "it is in the status")
    assert "film?WATCHDOG=trigger" in site.mesh(mesh, "Title")
    site.wait_rounds(1)
    assert (site.unit(mesh, "NRestarts"), site.unit(mesh, "SubState")) == ("0", "running")


BURDEN = """
import asyncio, sys
from ravesvc.bus import Bus
from ravesvc.bus.header import MessageKind
from ravesvc.bus.message import Message, encode
async def main():
    bus = await Bus.connect()
    for destination in sys.argv[1:]:
        # Encoded once, which takes a second. Nothing checks that serial numbers differ.
        large, fds = encode(Message(
            kind=MessageKind.SIGNAL, serial=bus._next_serial(), destination=destination, path="/x", interface="a.b",
            member="C", signature="as", body=[["x"] * 500_000]
        ))
        for _ in range(10):
            bus._transport.send(large, fds)
            await bus._transport.flush()
    await bus.close()
asyncio.run(main())
"""


def burden_with_signals(site: Site, mesh: str) -> None:
    """Let a stranger send large signals to the parent and to a bot, and make sure that neither has looked at them."""
    units = ("rave-orchestrator", names.mesh_unit(mesh))
    before = [_processor_seconds(site, unit) for unit in units]
    targets = [names.BUS_NAME, names.worker_name(mesh)]
    site.machine.run(["python3", "-I", "-c", BURDEN, *targets], user="nobody", timeout=120)
    for unit, seconds in zip(units, before, strict=True):
        assert _processor_seconds(site, unit) - seconds < 1, unit


def _processor_seconds(site: Site, unit: str) -> float:
    return int(site.sh(f"systemctl show --value -p CPUUsageNSec {unit}")) / 1e9


def _journal(site: Site) -> str:
    return site.machine.journal("-u", "rave-orchestrator")


def _reconnect(site: Site, mesh: str, connection: int) -> None:
    site.call("ReconnectMesh", "s", mesh)
    site.control.wait(reconnected={mesh: connection})


FORBIDDEN = """
StartUnit ss rave-simulator.service replace
StopUnit ss dbus.service replace
RestartUnit ss systemd-journald.service replace
StartUnit ss rave-meshes.target replace
TryRestartUnit ss rave-meshes.target replace
RestartUnit ss {unit} replace
StartUnit ss rave-mesh@nonsense.service replace
StartUnit ss rave-mesh@..-..-etc.service replace
ReloadUnit ss {unit} replace
KillUnit ssi {unit} all 9
SetUnitProperties sba(sv) {unit} true 1 MemoryMax t 1000000
BindMountUnit sssbb {unit} /etc/shadow /run/shadow true true
FreezeUnit s {unit}
CleanUnit sas {unit} 1 state
StartTransientUnit ssa(sv)a(sa(sv)) x.service replace 0 0
EnableUnitFiles asbb 1 rave-simulator.service false false
Reload
ResetFailed
PowerOff
"""
# Names what to run, and as whom. systemd itself refuses it only where the unit has a file.
TRANSIENT = f"StartTransientUnit ssa(sv)a(sa(sv)) rave-mesh@{STRANGER}.service replace 1 Description s x 0"


def test_rave_can_use_no_other_verb_and_no_other_unit(site: Site) -> None:
    (mesh,) = site.run_fleet(1)
    pid = site.pids([mesh])
    for line in FORBIDDEN.format(unit=names.mesh_unit(mesh)).strip().splitlines():
        with pytest.raises(CommandFailed, match=r"(?i)interactive authentication|access denied"):
            site.machine.run([*SYSTEMD, *line.split()], user="rave")
    assert site.pids([mesh]) == pid
    template = "/usr/lib/systemd/system/rave-mesh@.service"
    site.sh(f"mv {template} /root/; systemctl daemon-reload")
    try:
        with pytest.raises(CommandFailed, match=r"(?i)interactive authentication"):
            site.machine.run([*SYSTEMD, *TRANSIENT.split()], user="rave")
    finally:
        site.sh(f"mv /root/rave-mesh@.service {template}; systemctl daemon-reload")
    # What it may do, else the above would pass with no rule at all.
    for verb, unit in (
        ("TryRestartUnit", names.mesh_unit(mesh)),
        ("StopUnit", names.mesh_unit(mesh)),
        ("StopUnit", names.TARGET_UNIT),
    ):
        site.machine.run([*SYSTEMD, verb, "ss", unit, "replace"], user="rave")


# Runs in the machine: asks once on each of 36 connections, prints how often it was refused, and stays.
_ASKS_AND_STAYS = """
import asyncio
from ravesvc import names
from ravesvc.bus import Bus
from ravesvc.errors import Code, RaveError

async def refused(bus):
    try:
        await bus.call(names.BUS_NAME, names.MANAGER_PATH, names.MANAGER_INTERFACE, "ListMeshes")
    except RaveError as e:
        return e.code is Code.ACCESS_DENIED
    return False

async def main():
    buses = [await Bus.connect() for _ in range(36)]
    print(sum([await refused(bus) for bus in buses]), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_strangers_reach_the_bus_and_not_the_service(site: Site) -> None:
    """The service is stopped meanwhile: it could refuse nothing."""
    (mesh,) = site.run_fleet(1)
    site.sh("systemctl kill -s STOP --kill-whom=main rave-orchestrator")
    try:
        strangers = site.machine.spawn(["python3", "-I", "-c", _ASKS_AND_STAYS], user="nobody")
        assert strangers.stdout
        refused = strangers.stdout.readline()
    finally:
        site.sh("systemctl kill -s CONT --kill-whom=main rave-orchestrator")
    with strangers:
        try:
            assert refused == "36\n"
            assert mesh in site.call("ListMeshes")
            assert site.answers(mesh)
        finally:
            os.killpg(strangers.pid, signal.SIGKILL)


def test_a_bot_may_not_act_for_a_stranger(site: Site) -> None:
    """A real bot's process, whose code a stranger wrote: the parent looks up the acting user itself."""
    site.configure(NO_ROUND)
    site.run_fleet(1)
    site.sh("ravectl admin add 100000001")
    with inside_a_bot(site, _ASK_AS_STRANGER):
        eventually(lambda: "all refused" in site.machine.journal("-u", f"rave-mesh@{STRANGER}"), "it was refused")
    assert site.permissions("Admins") == 1


_ASK_AS_STRANGER = """
import asyncio
from ravesvc import names
from ravesvc.bus import Bus
from ravesvc.errors import Code, RaveError
from ravesvc.systemd.notify import notify

async def main():
    bus = await Bus.connect()
    notify("READY=1")
    calls = [("AddAdmin", "tt", 666, 666), ("RemoveAdmin", "tt", 666, 100000001), ("Refresh", "t", 666),
             ("SetPermission", "tsbs", 666, "ping", True, ""), ("RemovePermission", "ts", 666, "ping"),
             ("Relogin", "t", 666), ("IgnoreUser", "tt", 666, 777), ("UnignoreUser", "tt", 666, 777)]
    for call in calls:
        try:
            await bus.call(names.BUS_NAME, names.BACKEND_PATH, names.BACKEND_INTERFACE, *call)
        except RaveError as e:
            assert e.code is Code.ACCESS_DENIED, e
        else:
            raise SystemExit(f"{call} was allowed")
    # What a bot may know, this one may, too: else the above would pass with nothing allowed at all.
    print(await bus.call(names.BUS_NAME, names.BACKEND_PATH, names.BACKEND_INTERFACE, "GetAdmins"))
    print("all refused", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""

# Exposure in tenths, as systemd 257 counts it; for the units that 0.1.0 had, as it was there.
EXPOSURES = {
    "rave-ended@.service": 8,
    "rave-kill@.service": 15,
    "rave-media.service": 11,
    "rave-mesh@.service": 11,
    "rave-meshes-stop.service": 15,
    "rave-name-servers-changed.service": 15,
    "rave-name-servers.service": 9,
    "rave-orchestrator.service": 11,
    "rave-simulator.service": 9,
}


def test_each_sandbox_is_as_tight_as_it_was(site: Site) -> None:
    installed = site.sh("ls /usr/lib/systemd/system | grep '^rave-.*[.]service$'").split()
    assert installed == sorted(EXPOSURES)
    looser = [
        unit
        for unit, most in EXPOSURES.items()
        if site.sh(f"systemd-analyze security --offline=yes --threshold={most} {unit} >/dev/null || echo looser")
    ]
    assert not looser


def test_units_verify(site: Site) -> None:
    units = "rave-orchestrator.service rave-mesh@.service rave-meshes.target rave-mesh.slice rave-simulator.service"
    units += " rave-media.service rave-media.socket rave-ended@.service rave-kill@.service rave-meshes-stop.service"
    units += " rave-name-servers.path rave-name-servers.service"
    units += " rave-name-servers-changed.service"
    # There is no man(1) in the machine; that the pages are there is looked at below.
    assert site.sh(f"systemd-analyze verify --man=no {units} 2>&1") == ""
    for page in set(re.findall(r"man:([a-z.-]+)\((\d)\)", site.sh(f"systemctl cat {units}"))):
        site.sh(f"test -f /usr/share/man/man{page[1]}/{page[0]}.{page[1]}.gz")
