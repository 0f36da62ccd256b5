"""A bot that executes a stranger's code: a plugin plays it, in a real bot beside others.

And what a bot must still be able to do without sendmsg(2) and sendmmsg(2).
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from ravesvc import names
from ravesvc.mesh import confinement
from tests.integration.conftest import Figure, Site, eventually
from tests.integration.test_admins import says
from tests.integration.test_plugins import drop, refresh

TAKEN_OVER = """
import json
from ravesvc.commands import command
from ravesvc.hostile import probes

@command("attack", "Tries all ways out of the sandbox, against the process with that number.")
async def attack(context):
    found = probes.attempt_all(int(context.args[0]))
    await context.reply(json.dumps({name: text for name, text in found.items() if text is not None}))
"""

# Connections that are closed stay open while something else holds them: a message in which they are sent, which takes
# sixteen with its first byte, a thread that waits for them, a request to the kernel.
PARKING = """
import array, asyncio, ctypes, select, socket, struct, threading
from ravesvc.bus import transport
from ravesvc.bus.header import MessageKind
from ravesvc.bus.matching import DAEMON, DAEMON_PATH
from ravesvc.bus.message import Message, encode
from ravesvc.commands import command

HELLO, _ = encode(Message(
    kind=MessageKind.CALL, serial=1, member="Hello", destination=DAEMON, path=DAEMON_PATH, interface=DAEMON
))
libc = ctypes.CDLL(None, use_errno=True)
WAITS = ("7", "271", "23", "270")  # poll, ppoll, select, pselect6
IO_SETUP, IO_SUBMIT, IOCB_CMD_POLL = 206, 209, 5

async def connect():
    made = await transport.open_socket(transport.system_address())
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(made, HELLO)
    await loop.sock_recv(made, 4096)
    return made

async def sendmsg(parked, carriers=[]):
    carriers.append(await connect())
    rights = array.array("i", [each.fileno() for each in parked])
    carriers[-1].sendmsg([HELLO[:1]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

async def wait_in_thread(wait):
    wait(0)
    thread = threading.Thread(target=wait, args=[None], daemon=True)
    thread.start()
    while open(f"/proc/self/task/{thread.native_id}/syscall").read().split()[0] not in WAITS:
        await asyncio.sleep(0.001)

async def poll(parked):
    waiting = select.poll()
    for each in parked:
        waiting.register(each, select.POLLPRI)
    await wait_in_thread(waiting.poll)

async def select_(parked):
    numbers = [each.fileno() for each in parked]
    await wait_in_thread(lambda timeout: select.select([], [], numbers, timeout))

def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")

async def aio(parked):
    context = ctypes.c_ulong()
    checked(libc.syscall(IO_SETUP, 16, ctypes.byref(context)))
    for each in parked:
        asked = struct.pack("QIIHhIQQqQII", 0, 0, 0, IOCB_CMD_POLL, 0, each.fileno(), select.POLLPRI, 0, 0, 0, 0, 0)
        asked = ctypes.create_string_buffer(asked)
        checked(libc.syscall(IO_SUBMIT, context, 1, ctypes.byref(ctypes.c_void_p(ctypes.addressof(asked)))))

@command("park", "Connects to the bus, and leaves the connections there.")
async def park(context):
    way, size, times = context.args
    try:
        for _ in range(int(times)):
            parked = [await connect() for _ in range(int(size))]
            await {"sendmsg": sendmsg, "poll": poll, "select": select_, "aio": aio}[way](parked)
            for each in parked:
                each.close()
    except Exception as e:
        await context.reply(str(e))
    else:
        await context.reply("parked")
"""


SLOW = "/run/systemd/system/rave-name-servers.service.d/slow.conf"


@pytest.fixture(scope="module")
def site(shared_site: Site) -> Iterator[Site]:
    """One service for all tests, each of which leaves it running; new name servers are dealt with slowly."""
    text = "[Service]\nExecStartPost=/usr/bin/sleep 5\n"
    shared_site.machine.run(["install", "-D", "-m", "644", "/dev/stdin", SLOW], input=text)
    # Before any bot runs: those that run at a daemon-reload of systemd 257 do not reach what a slice allows later.
    shared_site.sh("systemctl daemon-reload")
    yield shared_site
    shared_site.sh(f"rm {SLOW}; systemctl daemon-reload")


@pytest.fixture(scope="module")
def taken_over(site: Site) -> Iterator[list[str]]:
    """Three meshes whose bots do what a stranger says."""
    meshes = site.run_fleet(3)
    drop(site, "attack.py", TAKEN_OVER)
    drop(site, "park.py", PARKING)
    drop(site, "work.py", WORKING)
    refresh(site)
    yield meshes
    site.sh(f"rm -f {names.COMMANDS_DIRECTORY}/*.py")


def test_a_bot_that_was_taken_over_reaches_no_sibling_and_opens_no_door(
    site: Site, taken_over: list[str], figure: Figure
) -> None:
    first, sibling, _ = taken_over
    pids, connections = site.pids(taken_over), site.control.connections()
    possible = json.loads(says(site, first, "ann", f"?attack {pids[sibling]}"))
    assert possible == {}
    assert says(site, first, "ann", "?ping") == "Pong!", "and it works"
    assert (site.pids(taken_over), site.control.connections()) == (pids, connections)
    figure("a bot that was taken over reached no sibling and opened no door")


def parked(site: Site, mesh: str, *arguments: str) -> tuple[str, int]:
    """How it ends to park connections, and how many there are then; afterwards there are none."""

    def connections() -> int:
        return int(site.sh("grep -c ' /run/dbus/system_bus_socket$' /proc/net/unix"))

    before, connection = connections(), site.control.connections()[mesh]
    outcome = says(site, mesh, "ann", " ".join(("?park", *arguments)))
    more = connections() - before
    site.sh(f"systemctl restart {names.mesh_unit(mesh)}")
    site.control.wait(reconnected={mesh: connection})
    eventually(lambda: connections() <= before, "nothing is left")
    return outcome, more


@pytest.mark.parametrize("way", ["sendmsg", "poll", "select", "aio"])
def test_a_bot_that_was_taken_over_parks_no_connections_to_the_bus(
    site: Site, taken_over: list[str], figure: Figure, way: str
) -> None:
    outcome, more = parked(site, taken_over[0], way, "16", "10")
    figure(f"connections to the bus that a bot with 64 open files got by {way}: {more}")
    assert "Errno 1" in outcome
    assert more <= 64


def test_a_bot_that_was_taken_over_leaves_most_connections_to_others(
    site: Site, taken_over: list[str], figure: Figure
) -> None:
    outcome, more = parked(site, taken_over[0], "poll", str(confinement.MAX_POLLED), "100")
    figure(f"connections to the bus that a bot got by its threads: {more}")
    assert outcome == "can't start new thread"
    assert 64 < more <= 64 + 64 * confinement.MAX_POLLED


@pytest.fixture
def small_buffers(site: Site) -> Iterator[None]:
    """The kernel keeps next to nothing of what the other side of a connection has not read yet."""
    before = site.sh("sysctl net.ipv4.tcp_wmem net.ipv4.tcp_rmem")
    site.sh("sysctl -qw net.ipv4.tcp_wmem='4096 4096 4096' net.ipv4.tcp_rmem='4096 4096 4096'")
    yield
    site.machine.run(["sysctl", "-q", "-p", "/dev/stdin"], input=before)


WORKING = """
import asyncio, gc, socket
from ravesvc.commands import command

@command("burst", "Says a lot at once, and how many bytes had to wait for that.")
async def burst(context):
    room = context.outbox._room
    said = [asyncio.create_task(room.chat(f"{number} " + 5000 * "x")) for number in range(40)]
    waiting = 0
    while not all(task.done() for task in said):
        await asyncio.sleep(0)
        transports = [each for each in gc.get_objects() if isinstance(each, asyncio.Transport)]
        waiting = max([waiting, *(each.get_write_buffer_size() for each in transports)])
    await asyncio.gather(*said)
    await context.reply(str(waiting))

@command("lookup", "Looks up a name.")
async def lookup(context):
    try:
        found = await asyncio.to_thread(socket.getaddrinfo, context.args[0], 443, type=socket.SOCK_STREAM)
    except OSError as e:
        await context.reply(str(e))
    else:
        addresses = sorted({address[4][0] for address in found})
        await context.reply(f"{addresses[0]} to {addresses[-1]}: {len(addresses)}")
"""


def test_all_of_a_burst_arrives_at_a_room_whose_server_is_slow(
    site: Site, small_buffers: object, taken_over: list[str], figure: Figure
) -> None:
    first = taken_over[0]
    # A connection that is made now has the small buffers.
    connection = site.control.connections()[first]
    site.control.drop(first)
    site.control.wait(reconnected={first: connection})
    connections = site.control.connections()
    waited = int(says(site, first, "ann", "?burst", wait=30.0))
    said = [event["text"] for event in site.control.events() if event["type"] == "chat" and event["mesh"] == first]
    numbers = {int(text.split()[0]) for text in said if text.endswith("xxx")}
    assert numbers == set(range(40))
    assert waited > 0
    assert site.control.connections() == connections
    figure(f"bytes of 200 kB that waited in a bot for a slow server, and arrived: {waited}")


# Runs in the machine: answers on one address, by TCP alone for names that have many addresses.
NAME_SERVER = """
import socket, socketserver, struct, sys, threading

def answer(query, whole):
    question = query[12:query.index(0, 12) + 5]
    kind, = struct.unpack(">H", question[-4:-2])
    start = {1: bytes([192, 0, 2]), 28: bytes.fromhex("20010db8") + bytes(11)}[kind]
    count = 60 if b"many" in question else 1
    cut = count > 1 and not whole
    data = [] if cut else [start + bytes([number]) for number in range(1, count + 1)]
    records = [bytes([0xc0, 12]) + struct.pack(">HHIH", kind, 1, 60, len(each)) + each for each in data]
    head = struct.pack(">5H", 0x8380 if cut else 0x8180, 1, len(records), 0, 0)
    return query[:2] + head + question + b"".join(records)

class Datagram(socketserver.BaseRequestHandler):
    def handle(self):
        query, sock = self.request
        sock.sendto(answer(query, False), self.client_address)

class Stream(socketserver.StreamRequestHandler):
    def handle(self):
        while size := self.rfile.read(2):
            found = answer(self.rfile.read(int.from_bytes(size)), True)
            self.wfile.write(len(found).to_bytes(2) + found)

for kind, handler in (socketserver.ThreadingUDPServer, Datagram), (socketserver.ThreadingTCPServer, Stream):
    kind.address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
    threading.Thread(target=kind((sys.argv[1], 53), handler).serve_forever).start()
print("ready", flush=True)
"""


@pytest.mark.parametrize("address", ["127.0.0.53", "::1"])
def test_a_bot_looks_names_up_at_a_name_server_of_either_family(
    site: Site, taken_over: list[str], resolv_conf: Callable[[str], None], address: str
) -> None:
    def found(name: str) -> str:
        return says(site, taken_over[0], "ann", f"?lookup {name}", wait=30.0)

    resolv_conf(f"nameserver {address}")
    with site.machine.spawn(["python3", "-I", "-c", NAME_SERVER, address]) as server:
        assert server.stdout
        assert server.stdout.readline() == "ready\n"
        try:
            eventually(
                lambda: address in site.sh("systemctl show -P IPAddressAllow rave-mesh.slice"), "it is reached"
            )
            assert found("one.example") == "192.0.2.1 to 2001:db8::1: 2"
            assert found("many.example") == "192.0.2.1 to 2001:db8::f: 120", "by TCP"
        finally:
            os.killpg(server.pid, signal.SIGKILL)


@pytest.fixture
def resolv_conf(site: Site) -> Iterator[Callable[[str], None]]:
    """Writes that file anew, as a network manager does."""
    site.sh("cp -a /etc/resolv.conf /run/resolv.conf.before 2>/dev/null || :")

    def write(text: str) -> None:
        site.sh(f"echo '{text}' > /etc/resolv.conf.new && mv /etc/resolv.conf.new /etc/resolv.conf")

    yield write
    site.sh("mv /run/resolv.conf.before /etc/resolv.conf 2>/dev/null || rm /etc/resolv.conf")


@pytest.mark.usefixtures("taken_over")
def test_the_later_of_two_changes_counts(site: Site, resolv_conf: Callable[[str], None]) -> None:
    """It comes when the first has been read, and before the service that has read it ends."""

    def reached(address: str) -> bool:
        return f"{address}/32" in site.sh("systemctl show -P IPAddressAllow rave-mesh.slice").split()

    resolv_conf("nameserver 127.7.7.1")
    eventually(lambda: reached("127.7.7.1"), "the first is reached")
    assert site.sh("systemctl is-active rave-name-servers.service || :").strip() == "activating"
    resolv_conf("nameserver 127.7.7.2")
    eventually(lambda: reached("127.7.7.2"), "the later one is reached")
    assert not reached("127.7.7.1")


def test_bots_that_run_reach_a_name_server_that_is_new_and_none_that_was(
    site: Site, taken_over: list[str], resolv_conf: Callable[[str], None]
) -> None:
    first, sibling, _ = taken_over
    pids, connections = site.pids(taken_over), site.control.connections()

    def near() -> bool:
        return "near addresses" in json.loads(says(site, first, "ann", f"?attack {pids[sibling]}"))

    assert not near()
    # It is where the attack tries to get to.
    resolv_conf("nameserver 127.8.8.8")
    eventually(near, "what is a name server now is reached")
    resolv_conf("nameserver 127.0.0.53")
    eventually(lambda: not near(), "what is none any more is not")
    assert (site.pids(taken_over), site.control.connections()) == (pids, connections)


def test_what_bots_reach_stays_while_the_service_is_stopped_and_is_right_at_its_start(
    site: Site, resolv_conf: Callable[[str], None]
) -> None:
    def addresses(what: str) -> set[str]:
        return set(site.sh(f"systemctl show --value -p IPAddress{what} rave-mesh.slice").split())

    def follower() -> str:
        return site.sh("systemctl is-active rave-name-servers.path || :").strip()

    resolv_conf("nameserver 127.0.0.53")
    site.run_fleet(1)
    eventually(lambda: "127.0.0.53/32" in addresses("Allow"), "the name server is reached")
    denied = addresses("Deny")
    assert "127.0.0.0/8" in denied
    assert follower() == "active"
    site.sh("systemctl stop rave-orchestrator.service rave-meshes.target")
    eventually(lambda: follower() == "inactive", "nothing looks at name servers for no bots")
    # A bot that was started now, or does not stop yet, is kept from the same.
    assert addresses("Deny") == denied
    resolv_conf("nameserver 127.8.8.8")
    site.sh("systemctl start rave-orchestrator.service")
    assert addresses("Deny") == denied
    assert "127.8.8.8/32" in addresses("Allow")
    assert "127.0.0.53/32" not in addresses("Allow")
    assert follower() == "active"
