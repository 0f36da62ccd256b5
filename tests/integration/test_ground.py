"""The ground gives way: the message bus, systemd, the disk, the clock, the memory of the machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from testbed.machine import CommandFailed

from ravesvc import names
from tests.integration.conftest import Figure, Site, eventually
from tests.integration.test_blocklist import FILE, blocklist, entries
from tests.integration.test_rights import burden_with_signals

# Seconds until both sides are back on a bus that is there again.
BACK = 15.0


def on_the_bus(site: Site, meshes: list[str]) -> bool:
    """Whether parent and bots are on the bus, and know of each other."""
    words = ["busctl", "--json=short", "get-property", names.BUS_NAME, names.MANAGER_PATH, names.MANAGER_INTERFACE]
    done = site.machine.run([*words, "Connected"], check=False)
    if done.returncode or json.loads(done.stdout)["data"] != len(meshes):
        return False
    present = site.sh("busctl list --no-legend --acquired")
    return all(names.worker_name(mesh) in present for mesh in meshes)


@pytest.mark.parametrize("how", ["systemctl restart dbus", "systemctl kill -s KILL dbus"])
def test_the_message_bus_goes_away(site: Site, how: str, figure: Figure) -> None:
    meshes = site.run_fleet(5)
    pids, connections = site.pids(meshes), site.control.connections()
    begun = time.monotonic()
    site.sh(how, timeout=60)
    # A bus that was killed is started by the first program that needs it.
    site.sh("busctl list >/dev/null")
    back = time.monotonic()
    eventually(lambda: on_the_bus(site, meshes), "both sides are back", BACK)
    figure(f"{how}: both sides back {time.monotonic() - back:.1f} s after the bus (limit {BACK:g} s)")
    assert site.pids(meshes) == pids, "nobody has restarted"
    assert site.control.connections() == connections, "no socket was dropped"
    assert [site.unit(mesh, "NRestarts") for mesh in meshes] == ["0"] * 5
    assert entries(site) == {}
    assert all(site.answers(mesh) for mesh in meshes[:2])
    assert time.monotonic() - begun < 60


@pytest.fixture
def _broker(site: Site) -> Iterator[None]:
    """The system bus is dbus-broker, as after the boot that its installation asks for."""
    apt = "DEBIAN_FRONTEND=noninteractive apt-get -q -y"
    # By a pattern: only one of the services is there.
    stop = "systemctl stop dbus.socket 'dbus*.service'"
    switch = f"{stop}; systemctl daemon-reload; systemctl start dbus.socket dbus.service"
    site.sh(f"{apt} install dbus-broker; {switch}", timeout=120)
    try:
        yield
    finally:
        site.sh("systemctl stop rave-orchestrator.service rave-meshes.target")
        site.sh(f"{apt} purge dbus-broker; {switch}; systemctl restart polkit", timeout=120)


@pytest.mark.usefixtures("_broker")
def test_dbus_broker_as_the_message_bus(site: Site) -> None:
    assert site.sh("systemctl is-active dbus-broker") == "active\n"
    mesh, _ = meshes = site.run_fleet(2)
    worker = [names.worker_name(mesh), names.worker_path(mesh)]
    call = ["busctl", "call", *worker, names.WORKER_INTERFACE, "GetStatus"]
    assert '"Connected" b true' in site.machine.run(call).stdout
    assert names.WORKER_INTERFACE in site.machine.run(["busctl", "introspect", *worker]).stdout
    log = site.machine.journal("-u", "dbus-broker", "-o", "cat")
    assert "Ready" in log
    assert "ravesvc" not in log, "it knows all that our policy says, and has refused nothing"
    assert "quota" not in log
    for user in ("nobody", "rave-mesh"):
        with pytest.raises(CommandFailed, match=r"(?i)access denied"):
            site.machine.run(call, user=user)
    burden_with_signals(site, mesh)
    pids, connections = site.pids(meshes), site.control.connections()
    site.sh("systemctl restart dbus-broker", timeout=60)
    eventually(lambda: on_the_bus(site, meshes), "both sides are back", BACK)
    assert (site.pids(meshes), site.control.connections()) == (pids, connections)
    assert site.answers(mesh)


@pytest.mark.parametrize("how", ["daemon-reexec", "daemon-reload"])
def test_systemd_starts_anew(site: Site, how: str) -> None:
    meshes = site.run_fleet(3)
    pids, connections = site.pids(meshes), site.control.connections()
    parent = site.sh("systemctl show --value -p MainPID rave-orchestrator")
    for _ in range(2):
        site.sh(f"systemctl {how}", timeout=60)
    site.wait_rounds(2)
    site.wait_state(meshes, "connected")
    assert (site.pids(meshes), site.control.connections()) == (pids, connections)
    assert site.sh("systemctl show --value -p MainPID rave-orchestrator") == parent
    # What happens after that is still seen.
    site.control.kick(meshes[0])
    site.wait_state([meshes[0]], "blocked")
    site.sh(f"systemctl stop rave-mesh@{meshes[1]}")
    site.wait_state([meshes[1]], "held")
    assert meshes[2] in site.control.connections()


@pytest.fixture
def _small_disk(site: Site) -> Iterator[None]:
    """The state directory is on a file system of 512 kB, as another disk would be."""
    site.sh("mount -t tmpfs -o size=512k,mode=700,uid=$(id -u rave),gid=$(id -g rave) tmpfs /var/lib/rave")
    site.give_credentials()
    yield
    site.sh("systemctl stop rave-orchestrator.service rave-meshes.target; umount /var/lib/rave")


@pytest.mark.usefixtures("_small_disk")
def test_the_disk_is_full(site: Site) -> None:
    first, second, third = site.run_fleet(3)
    site.control.kick(first)
    site.wait_state([first], "blocked")
    before = site.sh(f"cat {FILE}")
    site.sh("cat /dev/zero > /var/lib/rave/filler 2>/dev/null || true")
    site.control.kick(second)
    eventually(lambda: "can't be saved" in site.sh("systemctl status rave-orchestrator"), "the status says so")
    assert "No space left" in site.manager("Status")
    assert site.sh(f"cat {FILE}") == before, "the old file is whole"
    assert "disk" in site.sh("ravectl stop " + third, check=False) or True
    eventually(lambda: second not in site.control.connections(), "it is out")
    site.control.invite(second)
    site.wait_rounds(2)
    assert second not in site.control.connections(), "what can't be saved holds"
    assert site.sh("systemctl is-active rave-orchestrator") == "active\n"
    site.sh("rm /var/lib/rave/filler")
    eventually(lambda: second in blocklist(site)["blockedMeshes"], "it is saved when that works again", 30)
    eventually(lambda: "can't be saved" not in site.manager("Status"), "and the status is well")
    assert site.sh("find /var/lib/rave -name '.blocklist*'") == "", "no temporary file is left"


@pytest.fixture
def fake_clock(site: Site) -> Iterator[str]:
    """The parent's wall clock goes by a file in the machine: what libfaketime adds to the real one."""
    offset = "/run/fake-clock"
    site.sh(f"echo +0 > {offset}; chmod 644 {offset}")
    site.sh("DEBIAN_FRONTEND=noninteractive apt-get -q -y install libfaketime", timeout=120)
    library = site.sh("find /usr/lib -name libfaketime.so.1").strip()
    lines = [
        "[Service]",
        f"Environment=LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE={offset} FAKETIME_NO_CACHE=1",
        "Environment=FAKETIME_DONT_FAKE_MONOTONIC=1",
        # Its work-around for an old C library lets every wait of one thread for another end at once: Python then
        # spins for the lock that its threads share, and is not heard for up to 20 s.
        "Environment=FAKETIME_FORCE_MONOTONIC_FIX=0",
    ]
    directory = "/run/systemd/system/rave-orchestrator.service.d"
    text = "\n".join(lines) + "\n"
    site.machine.run(["install", "-D", "-m", "644", "/dev/stdin", f"{directory}/clock.conf"], input=text)
    site.sh("systemctl daemon-reload")
    yield offset
    site.sh(f"systemctl stop rave-orchestrator; rm -r {directory} {offset}; systemctl daemon-reload")


@pytest.mark.parametrize("jump", ["+1d", "-1d"])
def test_the_clock_jumps_a_day(site: Site, fake_clock: str, jump: str) -> None:
    # The simulator keeps its own time, which is part of every request.
    site.control.option("request_window", "never")
    blocked, kicked, *others = site.run_fleet(4)
    pids, connections = site.pids(others), site.control.connections()
    site.sh(f"ravectl blocklist add {blocked} --for 1h")
    site.control.kick(kicked)
    site.wait_state([kicked, blocked], "blocked")
    left = remaining(site, blocked)
    # In one go: it is read at any moment.
    site.sh(f"echo {jump} > {fake_clock}.new; chmod 644 {fake_clock}.new; mv {fake_clock}.new {fake_clock}")
    shift = 86_400 if jump == "+1d" else -86_400
    eventually(lambda: abs(last_discovery(site) - time.time() - shift) < 60, "the parent's clock has jumped")
    site.wait_rounds(3)
    assert set(entries(site)) == {blocked, kicked}, "nothing is released"
    # The times in the answer are the new clock's.
    assert abs(remaining(site, blocked) - shift - left) < 30
    site.kill_parent()
    site.wait_state(others, "connected")
    if jump == "+1d":
        site.wait_rounds(2)
    else:
        # To the new parent the certificate of the simulator is not valid yet; so nothing changes.
        eventually(lambda: "not yet valid" in site.manager("DiscoveryError"), "discovery fails")
    assert set(entries(site)) == {blocked, kicked}, "nor by a parent that starts with the new clock"
    assert abs(remaining(site, blocked) - shift - left) < 60
    assert site.pids(others) == pids, "nobody was restarted"
    assert {mesh: site.control.connections()[mesh] for mesh in others} == {mesh: connections[mesh] for mesh in others}


def last_discovery(site: Site) -> float:
    """When it was by the parent's wall clock."""
    return float(site.manager("LastDiscoveryTimestamp")) / 1_000_000


def remaining(site: Site, mesh: str) -> float:
    """For how many seconds by our own clock a mesh is still blocked."""
    return float(entries(site)[mesh][2]) / 1_000_000 - time.time()


def test_a_bot_that_eats_memory(site: Site) -> None:
    controllers = site.sh("cat /sys/fs/cgroup/cgroup.controllers").split()
    if "memory" not in controllers:
        pytest.skip("this machine has no memory controller for its containers, so nothing enforces MemoryMax=")
    hungry, other = site.run_fleet(2)
    pids, connections = site.pids([other]), site.control.connections()
    site.break_program(hungry, "hoard = []\nwhile True: hoard.append(bytearray(1 << 20))\n")
    site.set_options(max_process_restarts=1, process_restart_delay="100ms")
    site.sh("systemctl restart rave-orchestrator")
    site.sh(f"systemctl kill -s KILL {names.mesh_unit(hungry)}")
    site.wait_state([hungry], "blocked", timeout=60)
    assert "oom" in entries(site)[hungry][3]
    assert site.pids([other]) == pids
    assert site.control.connections()[other] == connections[other]
