"""What a bot gives up by itself at its start, beyond what its unit can take from it; there is no way back.

A filter of system calls (seccomp) that looks at arguments, which SystemCallFilter= can't: no process is started and
no program executed, all threads share their open files and the limit of these, and the kernel is never told to send
signals or limits elsewhere. And Landlock, which needs no rights: no signal and no abstract socket reaches beyond this
process, no file can be written, and TCP connects to a few ports alone. The filter refuses what gets around that:
other protocols and types of sockets, and data that opens a connection.

With 64 descriptors a bot could take all connections to the message bus of its user: it closes one while something
else keeps it open. That is the bus, for a descriptor that came with a message that is not complete yet, or the
kernel, for one that a thread waits for. So no descriptor can be sent (sendmsg, sendmmsg), and a thread waits for a
few only (poll, select).

Both are called by `_ctypes` alone, which is ctypes without its types: 50 kB and 1 ms a bot, not 190 kB and 3 ms.
"""

from __future__ import annotations

import _ctypes
import os
import socket
import struct
import sys
from array import array
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2


class Architecture(NamedTuple):
    """The kernel's name of an architecture (AUDIT_ARCH_*), and its numbers of system calls."""

    audit: int
    clone: int
    prlimit64: int
    fcntl: int
    ioctl: int
    socket: int
    socketpair: int
    sendto: int
    polls: tuple[int, ...]  # poll, ppoll
    # fork, vfork, execve, execveat, unshare, setns, sendmsg, sendmmsg, select, pselect6: those that there are
    refused: tuple[int, ...]


_GENERIC = Architecture(0xC00000B7, 220, 261, 25, 29, 198, 199, 206, (73,), (221, 281, 97, 268, 211, 269, 72))
ARCHITECTURES = {
    "x86_64": Architecture(
        0xC000003E, 56, 302, 72, 16, 41, 53, 44, (7, 271), (57, 58, 59, 322, 272, 308, 46, 307, 23, 270)
    ),
    "aarch64": _GENERIC,
    "riscv64": _GENERIC._replace(audit=0xC00000F3),
}
# The same everywhere.
_CLONE3, _CLOSE_RANGE = 435, 436
# CLONE_THREAD and CLONE_FILES: a thread with a table of open files of its own has a limit (LimitNOFILE=) of its own.
_THREAD_FLAGS = 0x10000 | 0x400
_CLOSE_RANGE_UNSHARE = 0b10
# F_SETOWN, F_SETSIG, F_SETOWN_EX; FIOSETOWN, SIOCSPGRP: with these the kernel sends signals, which no filter sees.
_OWNER_COMMANDS = (8, 10, 15)
_OWNER_REQUESTS = (0x8901, 0x8902)
# SOCK_STREAM and SOCK_DGRAM; flags stand above the type. SOCK_SEQPACKET is SCTP, at which Landlock does not look.
_TYPE, _TYPES = 0xF, (1, 2)
# RestrictAddressFamilies= does not look at pairs, of which there are more than AF_UNIX's.
_AF_UNIX = 1
# The usual one of the family, TCP, UDP. Landlock looks at TCP, and Multipath TCP (262), say, would reach any port.
_PROTOCOLS = (0, 6, 17)
# Descriptors that a thread may wait for at once, which stay open meanwhile although they are closed. Python waits for
# one, a library in C for a few. select(2), which does not say how many they are, is refused; epoll(7) holds none.
MAX_POLLED = 4
# Opens a connection without connect(2), where Landlock looks.
_MSG_FASTOPEN = 0x20000000

# Codes of the filter's instructions (linux/bpf_common.h), and where they look (struct seccomp_data).
_LOAD, _MASK, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENT_0, _ARGUMENT_1, _ARGUMENT_2, _ARGUMENT_3 = 0, 4, 16, 24, 32, 40
_ALLOW, _ERROR, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050000, 1, 38
# Numbers of another interface of x86-64 (x32) have this bit.
_X32 = 0x40000000

# The same everywhere, and the flag with which the first answers with a version.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
# How many rights on files a version of Landlock knows (linux/landlock.h). All are given up but to read files and
# directories. What later versions add changes nothing here until it is listed.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_MAX_FILE_RIGHTS, _READ_RIGHTS = 16, 0b1100
_BIND_TCP, _CONNECT_TCP = 0b01, 0b10
_PORT_RULE = 2
# Name servers are asked by TCP for what does not fit into a datagram.
_DNS_PORT = 53
# To abstract sockets, and signals.
_SCOPES = 0b11
# The first version of Landlock with rules for TCP (Linux 6.7), and the first that keeps signals in (6.12).
LANDLOCK_TCP, LANDLOCK_SCOPES = 4, 6
_UNRESTRICTED = "it could connect to every port, and its unit alone keeps it from writing and from sending signals"


def confine(machine: str, ports: Iterable[int]) -> list[str]:
    """Give up what a bot has no need of; for a process with a single thread, of an architecture (`uname -m`).

    `ports` are those that TCP may still connect to, beside that of name servers. What the kernel does not offer is
    left out; the answer says so, a sentence for each.
    """
    filtered = _filter_calls(_function("prctl"), machine)
    return [text for text in (filtered, _restrict(_function("syscall"), ports)) if text]


def landlock_version() -> int | None:
    """The version of the kernel's Landlock, None without any."""
    return _version(_function("syscall"))


def _function(name: str) -> Callable[..., int]:
    # None is the program itself, libc included; its stub lacks that.
    address = _ctypes.dlsym(_ctypes.dlopen(None, 0), name)  # type: ignore[arg-type]
    # Whole numbers go as C's int, bytes as a pointer to them.
    return lambda *arguments: _ctypes.call_function(address, arguments)


def _filter_calls(prctl: Callable[..., int], machine: str) -> str | None:
    if machine not in ARCHITECTURES or sys.byteorder != "little":
        return f"There is no filter of system calls for {machine}: it could start processes"
    # Without it a filter needs a privilege. The unit has it as well, unless a drop-in has reset it, as LXC's does.
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return "The kernel does not let it give up privileges (no_new_privs): it could start processes"
    instructions = program(ARCHITECTURES[machine])
    code = array("B", b"".join(instructions))
    # struct sock_fprog: how many instructions, and where.
    if prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, struct.pack("HP", len(instructions), code.buffer_info()[0])):
        return "The kernel takes no filter of system calls: it could start processes"
    _live_without_sendmsg()
    return None


def _live_without_sendmsg() -> None:
    """Have the standard library and libc, which send by sendmsg(2) and sendmmsg(2) now and then, do without."""
    # From Python 3.12 on asyncio sends so what the other side has been slow to read. Without this the connection
    # would end with an error. The class itself is changed, so that this holds for connections that plugins and
    # libraries make.
    socket.socket.sendmsg = _send_first  # type: ignore[assignment,method-assign]
    # glibc asks for both kinds of addresses by one sendmmsg, and takes the error for a failure of the name server.
    # With this option it asks for one after the other. Each thread reads it with the first name that it looks up.
    os.environ["RES_OPTIONS"] = f"{os.environ.get('RES_OPTIONS', '')} single-request".strip()


def _send_first(sock: socket.socket, buffers: Iterable[Any], *more: Any) -> int:
    """As `socket.sendmsg`, which may send a part of what it is given: the first buffer at most."""
    if any(more):  # descriptors, flags or an address: the kernel's to refuse
        return super(socket.socket, sock).sendmsg(buffers, *more)
    return sock.send(next(filter(len, buffers), b""))


def program(architecture: Architecture) -> list[bytes]:
    """The filter, as instructions for the kernel (struct sock_filter)."""
    refuse, allow = [_step(_RETURN, _ERROR | _EPERM)], [_step(_RETURN, _ALLOW)]
    no_such_call = [_step(_RETURN, _ERROR | _ENOSYS)]
    thread = [_step(_MASK, _THREAD_FLAGS), *_unless(_IF_EQUAL, _THREAD_FLAGS, refuse), *allow]
    polled = [*_when(_IF_AT_LEAST, MAX_POLLED + 1, refuse), *allow]
    protocol = [_step(_LOAD, _ARGUMENT_2), *_when_any(_PROTOCOLS, allow), *refuse]
    return [
        _step(_LOAD, _ARCH),
        *_unless(_IF_EQUAL, architecture.audit, refuse),
        _step(_LOAD, _NUMBER),
        *_when(_IF_AT_LEAST, _X32, refuse),
        # glibc's threads then take clone, whose flags are not behind a pointer.
        *_when(_IF_EQUAL, _CLONE3, no_such_call),
        *_when_any(architecture.refused, refuse),
        *_call(architecture.clone, _ARGUMENT_0, thread),
        *_call(_CLOSE_RANGE, _ARGUMENT_2, [*_when(_IF_ANY_BIT, _CLOSE_RANGE_UNSHARE, refuse), *allow]),
        # getrlimit is prlimit64 of process 0, which is the process itself.
        *_call(architecture.prlimit64, _ARGUMENT_0, [*_unless(_IF_EQUAL, 0, refuse), *allow]),
        *_call(architecture.fcntl, _ARGUMENT_1, [*_when_any(_OWNER_COMMANDS, refuse), *allow]),
        *_call(architecture.ioctl, _ARGUMENT_1, [*_when_any(_OWNER_REQUESTS, refuse), *allow]),
        *_call(architecture.socket, _ARGUMENT_1, [_step(_MASK, _TYPE), *_when_any(_TYPES, protocol), *refuse]),
        *_call(architecture.socketpair, _ARGUMENT_0, [*_unless(_IF_EQUAL, _AF_UNIX, refuse), *allow]),
        *(step for number in architecture.polls for step in _call(number, _ARGUMENT_1, polled)),
        *_call(architecture.sendto, _ARGUMENT_3, [*_when(_IF_ANY_BIT, _MSG_FASTOPEN, refuse), *allow]),
        *allow,
    ]


def _step(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, operand)


def _when(test: int, operand: int, steps: list[bytes]) -> list[bytes]:
    return [_step(test, operand, 0, len(steps)), *steps]


def _unless(test: int, operand: int, steps: list[bytes]) -> list[bytes]:
    return [_step(test, operand, len(steps), 0), *steps]


def _when_any(values: tuple[int, ...], steps: list[bytes]) -> list[bytes]:
    """The same steps for each of the values: they stand there once, and earlier tests jump over later ones."""
    *others, last = values
    jumps = [_step(_IF_EQUAL, value, len(others) - at, 0) for at, value in enumerate(others)]
    return [*jumps, *_when(_IF_EQUAL, last, steps)]


def _call(number: int, argument: int, steps: list[bytes]) -> list[bytes]:
    """For that system call the steps, which have its argument before them and end with an answer."""
    return _when(_IF_EQUAL, number, [_step(_LOAD, argument), *steps])


def _restrict(syscall: Callable[..., int], ports: Iterable[int]) -> str | None:
    """By Landlock, as far as the kernel's version of it goes."""
    version = _version(syscall)
    if version is None:
        return f"The kernel has no Landlock: {_UNRESTRICTED}"
    rules = ruleset(version)
    descriptor = syscall(_CREATE_RULESET, rules, len(rules), 0)
    if descriptor < 0:
        return f"The kernel takes no Landlock rules: {_UNRESTRICTED}"
    allowed = [struct.pack("QQ", _CONNECT_TCP, port) for port in {*ports, _DNS_PORT}]
    try:
        # Half of the rules must not be applied: the bot could not reach Rave.
        if version >= LANDLOCK_TCP and any(syscall(_ADD_RULE, descriptor, _PORT_RULE, rule, 0) for rule in allowed):
            return f"The kernel takes no Landlock rules for ports: {_UNRESTRICTED}"
        if syscall(_RESTRICT_SELF, descriptor, 0):
            return f"The kernel does not apply Landlock rules: {_UNRESTRICTED}"
    finally:
        os.close(descriptor)
    if version < LANDLOCK_SCOPES:
        left = "signals and abstract sockets" if version >= LANDLOCK_TCP else "TCP, signals and abstract sockets"
        return f"Landlock of this kernel, version {version}, leaves {left} to other means"
    return None


def _version(syscall: Callable[..., int]) -> int | None:
    version = syscall(_CREATE_RULESET, 0, 0, _ASK_VERSION)
    return version if version > 0 else None


def ruleset(version: int) -> bytes:
    """What Landlock of that version is to deny (struct landlock_ruleset_attr, which has grown)."""
    files = (1 << _FILE_RIGHTS.get(version, _MAX_FILE_RIGHTS)) - 1 & ~_READ_RIGHTS
    return struct.pack("QQQ", files, _BIND_TCP | _CONNECT_TCP, _SCOPES)[
        : 24 if version >= LANDLOCK_SCOPES else 16 if version >= LANDLOCK_TCP else 8
    ]
