"""What a bot gives up: as this kernel does it, and for other architectures by the instructions of the filter."""

from __future__ import annotations

import json
import os
import socket
import ssl
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from ravesvc.mesh import confinement
from ravesvc.mesh.confinement import ARCHITECTURES
from tests.unit.authority import Authority

pytestmark = pytest.mark.process

CONFINED = """
import json, socket, sys, threading
from pathlib import Path
from ravesvc.hostile import probes
from ravesvc.mesh import confinement
gaps = confinement.confine(sys.argv[1], [int(sys.argv[4])])
thread = threading.Thread(target=lambda: None)
thread.start()
thread.join()
try:
    Path(sys.argv[3]).touch()
    written = True
except PermissionError:
    written = False
def reached(port):
    try:
        socket.create_connection(("127.0.0.1", int(port))).close()
        return True
    except PermissionError:
        return False
ports = [reached(port) for port in sys.argv[4:]]
json.dump([gaps, probes.attempt_all(int(sys.argv[2])), written, ports], sys.stdout)
"""


WORKING = """
import asyncio, socket, ssl, sys
from ravesvc.mesh import confinement
machine, port, notify, authority = sys.argv[1:]
confinement.confine(machine, [int(port)])
async def main():
    # By a thread of its own.
    addresses = await asyncio.get_running_loop().getaddrinfo("localhost", port, family=socket.AF_INET)
    context = ssl.create_default_context(cafile=authority)
    reader, writer = await asyncio.open_connection(*addresses[0][4], ssl=context, server_hostname="localhost")
    writer.write(bytes(1 << 24))
    writer.write(b"x")
    print(await reader.readline())
    writer.close()
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as made:
    made.sendto(b"READY=1", notify)
asyncio.run(main())
"""


class Confined(NamedTuple):
    """What a process says that it lacks, what it could do to another, whether it wrote a file, and which of two ports
    it reached: one that it may connect to, and another.
    """

    gaps: list[str]
    possible: dict[str, str | None]
    written: bool
    reached: list[bool]


def confined(machine: str, path: str) -> Confined:
    """What a process of its own finds."""
    with (
        subprocess.Popen(["sleep", "infinity"], start_new_session=True) as sibling,
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        ports = [str(server.getsockname()[1]) for server in (one, other)]
        command = [sys.executable, "-I", "-c", CONFINED, machine, str(sibling.pid), path, *ports]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert sibling.poll() is None
        sibling.kill()
    assert not done.stderr
    return Confined(*json.loads(done.stdout))


BY_FILTER = {
    "F_SETOWN", "F_SETOWN_EX", "F_SETSIG", "FIOSETOWN", "SIOCSPGRP", "prlimit", "fork", "exec", "TCP Fast Open",
    "Multipath TCP", "SOCK_SEQPACKET", "unshare", "close_range", "clone", "sendmsg", "sendmmsg",
    "poll", "select",
}  # fmt: skip
BY_LANDLOCK = {"kill", "killpg", "pidfd_send_signal", "/dev/shm", "/run/lock", "listen", "other ports"}


def test_a_confined_process_starts_threads_and_reaches_nobody(tmp_path: object) -> None:
    found = confined(os.uname().machine, f"{tmp_path}/file")
    assert not [name for name in BY_FILTER if found.possible[name]]
    assert found.reached[0], "a port that it may connect to"
    if not found.gaps:
        assert not [name for name in BY_LANDLOCK if found.possible[name]]
        assert not found.written
        assert not found.reached[1]


def test_a_confined_process_looks_names_up_speaks_tls_and_notifies(tmp_path: Path, authority: Authority) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        ThreadPoolExecutor(1) as thread,
    ):
        manager.bind(f"{tmp_path}/notify")
        answer = thread.submit(answer_by_tls, listening, authority)
        port = str(listening.getsockname()[1])
        machine = os.uname().machine
        command = [sys.executable, "-I", "-c", WORKING, machine, port, f"{tmp_path}/notify", str(authority.ca_file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("b'done\\n'\n", "")
        assert answer.result() == (1 << 24) + 1
        assert manager.recv(99) == b"READY=1"


SENDING = """
import os, socket, sys
from ravesvc.mesh import confinement
confinement.confine(sys.argv[1], [])
one, other = socket.socketpair()
print(one.sendmsg(iter([b"", memoryview(b"ab"), b"c"])), other.recv(9), os.environ["RES_OPTIONS"])
"""


def test_a_confined_process_sends_bytes_in_parts_without_messages() -> None:
    """As asyncio does from Python 3.12 on, when the other side has been slow to read."""
    command = [sys.executable, "-I", "-c", SENDING, os.uname().machine]
    environment = {**os.environ, "RES_OPTIONS": "timeout:1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("2 b'ab' timeout:1 single-request\n", "")


def answer_by_tls(listening: socket.socket, authority: Authority) -> int:
    """How many bytes have come until an `x`; they are more than a socket takes at once."""
    connection, _ = listening.accept()
    count = 0
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.cert_file, authority.key_file)
    with context.wrap_socket(connection, server_side=True) as secure:
        while chunk := secure.recv(1 << 20):
            count += len(chunk)
            if chunk.endswith(b"x"):
                secure.sendall(b"done\n")
                break
    return count


def test_on_an_architecture_without_a_filter_it_says_what_it_lacks(tmp_path: object) -> None:
    found = confined("m68k", f"{tmp_path}/file")
    assert found.gaps[0] == "There is no filter of system calls for m68k: it could start processes"
    assert found.possible["fork"] == "it can start processes"


ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026


def judged(machine: str, number: int, *arguments: int, audit: int | None = None) -> int:
    """What the kernel would answer to a system call."""
    architecture = ARCHITECTURES[machine]
    given = [argument & 0xFFFF_FFFF_FFFF_FFFF for argument in (*arguments, *[0] * (6 - len(arguments)))]
    call = struct.pack("IIQ6Q", number, audit or architecture.audit, 0, *given)
    steps = [struct.unpack("HBBI", step) for step in confinement.program(architecture)]
    at = held = 0
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        if code == 0x06:
            return int(operand)
        if code == 0x20:
            (held,) = struct.unpack_from("I", call, operand)
        elif code == 0x54:
            held &= operand
        else:
            true = {0x15: held == operand, 0x35: held >= operand, 0x45: bool(held & operand)}[code]
            at += if_true if true else if_false


@pytest.mark.parametrize(
    ("machine", "prlimit", "fcntl", "ioctl", "execve"),
    [("x86_64", 302, 72, 16, 59), ("aarch64", 261, 25, 29, 221), ("riscv64", 261, 25, 29, 221)],
)
def test_the_filter_looks_at_arguments(machine: str, prlimit: int, fcntl: int, ioctl: int, execve: int) -> None:
    assert judged(machine, execve) == EPERM
    assert (judged(machine, prlimit, 0, 7), judged(machine, prlimit, 4711, 7)) == (ALLOW, EPERM)
    # The kernel takes these as 32 bits, whatever stands in the upper half.
    assert judged(machine, fcntl, 3, 0x1_0000_0008) == EPERM
    assert [judged(machine, fcntl, 3, command) for command in (8, 15, 10)] == [EPERM] * 3
    assert [judged(machine, fcntl, 3, command) for command in (1, 3, 4, 1030)] == [ALLOW] * 4
    assert [judged(machine, ioctl, 3, request) for request in (0x8901, 0x8902)] == [EPERM] * 2
    assert [judged(machine, ioctl, 3, request) for request in (0x5421, 0x541B)] == [ALLOW] * 2
    assert judged(machine, 0) == ALLOW


@pytest.mark.parametrize(
    ("machine", "clone", "unshare", "setns"),
    [("x86_64", 56, 272, 308), ("aarch64", 220, 97, 268), ("riscv64", 220, 97, 268)],
)
def test_the_filter_lets_threads_start_that_share_their_open_files(
    machine: str, clone: int, unshare: int, setns: int
) -> None:
    assert judged(machine, clone, 0x3D0F00) == ALLOW, "a thread as glibc starts it"
    assert judged(machine, clone, 0x3D0F00 & ~0x400) == EPERM, "a thread with open files of its own"
    assert [judged(machine, clone, flags) for flags in (17, 0x400 | 17)] == [EPERM] * 2, "a process"
    assert judged(machine, 435) == ENOSYS, "clone3"
    assert [judged(machine, call, 0x400) for call in (unshare, setns)] == [EPERM] * 2
    close_range = 436
    assert [judged(machine, close_range, 3, 9, flags) for flags in (0, 4, 2, 6)] == [ALLOW, ALLOW, EPERM, EPERM]


@pytest.mark.parametrize(
    ("machine", "make", "pair"), [("x86_64", 41, 53), ("aarch64", 198, 199), ("riscv64", 198, 199)]
)
def test_the_filter_lets_streams_and_datagrams_be_made(machine: str, make: int, pair: int) -> None:
    flags = 0o2004000  # SOCK_CLOEXEC | SOCK_NONBLOCK
    for family in (1, 2, 10):
        assert [judged(machine, make, family, kind | flags) for kind in (1, 2)] == [ALLOW] * 2
        assert [judged(machine, make, family, kind | flags) for kind in (0, 3, 4, 5, 6, 10)] == [EPERM] * 6
    assert [judged(machine, pair, family, 1 | flags) for family in (1, 30)] == [ALLOW, EPERM], "AF_UNIX, AF_TIPC"


@pytest.mark.parametrize(
    ("machine", "make", "sendto"), [("x86_64", 41, 44), ("aarch64", 198, 206), ("riscv64", 198, 206)]
)
def test_the_filter_lets_no_other_protocol_and_no_data_open_a_connection(
    machine: str, make: int, sendto: int
) -> None:
    assert [judged(machine, make, 2, 1, protocol) for protocol in (0, 6, 17)] == [ALLOW] * 3
    assert [judged(machine, make, 2, 1, protocol) for protocol in (132, 136, 256, 262)] == [EPERM] * 4
    fast, signal_less = 0x20000000, 0x4000
    assert judged(machine, sendto, fast, fast, fast, signal_less) == ALLOW
    assert judged(machine, sendto, fast, fast, fast, fast | signal_less) == EPERM


@pytest.mark.parametrize(
    ("machine", "sendmsg", "sendmmsg"), [("x86_64", 46, 307), ("aarch64", 211, 269), ("riscv64", 211, 269)]
)
def test_the_filter_lets_no_descriptor_be_sent(machine: str, sendmsg: int, sendmmsg: int) -> None:
    assert [judged(machine, call) for call in (sendmsg, sendmmsg)] == [EPERM] * 2


@pytest.mark.parametrize(
    ("machine", "polls", "selects"),
    [("x86_64", (7, 271), (23, 270)), ("aarch64", (73,), (72,)), ("riscv64", (73,), (72,))],
)
def test_the_filter_lets_a_thread_wait_for_a_few_descriptors(
    machine: str, polls: tuple[int, ...], selects: tuple[int, ...]
) -> None:
    for call in polls:
        assert [judged(machine, call, 0, number) for number in (0, 1, 4)] == [ALLOW] * 3
        assert [judged(machine, call, 0, number) for number in (5, 64, 2**31, 2**32 - 1)] == [EPERM] * 4
    assert {judged(machine, call, 1) for call in selects} == {EPERM}


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_filter_refuses_what_it_names_and_nothing_else(machine: str) -> None:
    architecture = ARCHITECTURES[machine]
    # Without arguments these are no thread, no stream and no pair that it lets be made.
    refused = {*architecture.refused, architecture.clone, architecture.socket, architecture.socketpair}
    assert {number for number in range(500) if judged(machine, number) == EPERM} == refused


def test_system_calls_of_another_architecture_are_refused() -> None:
    assert judged("x86_64", 0, audit=0x40000003) == EPERM, "32 bits"
    assert judged("x86_64", 0x40000000) == EPERM, "x32"


@pytest.mark.parametrize(("version", "size"), [(1, 8), (2, 8), (3, 8), (4, 16), (5, 16), (6, 24), (7, 24), (99, 24)])
def test_landlock_is_told_no_more_than_it_knows(version: int, size: int) -> None:
    rules = confinement.ruleset(version)
    assert len(rules) == size
    files = int.from_bytes(rules[:8], "little")
    assert files & 0b1100 == 0, "reading stays"
    assert rules[8:16] == (b"" if version < 4 else struct.pack("Q", 0b11)), "TCP: bind, and connect but to some ports"
    assert files.bit_length() == {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)


@pytest.mark.parametrize(
    ("answers", "lacking"),
    [
        ([-1], "has no Landlock"),
        ([6, -1], "takes no Landlock rules"),
        ([6, 0, -1], "takes no Landlock rules for ports"),
        ([6, 0, 0, 0, -1], "does not apply Landlock rules"),
    ],
)
def test_what_is_left_without_landlock_is_told_in_full(answers: list[int], lacking: str) -> None:
    """By what the system calls answer, in turn; the descriptor that the second one makes is a real one."""
    left = iter(answers)

    def syscall(number: int, *_arguments: object) -> int:
        answer = next(left)
        made = number == 444 and answer == 0
        return os.open(os.devnull, os.O_RDONLY) if made else answer

    assert confinement._restrict(syscall, [443]) == (
        f"The kernel {lacking}: "
        "it could connect to every port, and its unit alone keeps it from writing and from sending signals"
    )
    assert not list(left)
