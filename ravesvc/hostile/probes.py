"""What an attacker tries from within a bot, to reach other bots or to let others in; each attempt is harmless.

An attempt changes nothing even if it succeeds: signal 0, a limit set to its own value, a lock that is released at
once. It needs the PID of a sibling, a process of the same user that no bot may reach: most attempts on a process of
another user are refused by the kernel without a sandbox.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import resource
import secrets
import select
import signal
import socket
import struct
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ravesvc.common.text import count
from ravesvc.mesh.confinement import MAX_POLLED

Probe = Callable[[int], str | None]

_libc = ctypes.CDLL(None, use_errno=True)
# System calls without a function in libc. From 424 on, both architectures have the same numbers.
_CALL_NUMBERS = {
    "x86_64": {"keyctl": 250, "process_vm_readv": 310, "io_setup": 206, "io_destroy": 207},
    "aarch64": {"keyctl": 219, "process_vm_readv": 270, "io_setup": 0, "io_destroy": 1},
}.get(platform.machine(), {})
_COMMON_CALL_NUMBERS = {"io_uring_setup": 425, "close_range": 436, "pidfd_getfd": 438}
# The errors of the kernel if the sandbox holds. Other errors, such as too many open files, prove nothing.
_REFUSALS = (
    errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EROFS, errno.ENOENT,
)  # fmt: skip

_PTRACE_SEIZE, _PTRACE_DETACH = 0x4206, 17
_KEYCTL_GET_KEYRING_ID, _USER_KEYRING = 0, -4
_F_SETSIG, _F_SETOWN_EX = 10, 15
_FIOSETOWN, _SIOCSPGRP = 0x8901, 0x8902
_CLONE_FILES = 0x400
_CLONE_THREAD_FLAGS = 0x100 | 0x800 | 0x10000  # CLONE_VM, CLONE_SIGHAND, CLONE_THREAD
_CLOSE_RANGE_UNSHARE = 2
# More than half of the files that a bot may open.
_HALF_OF_FILES = 40
# The stack of a thread whose end can't be awaited, so it is never freed.
_stack = ctypes.create_string_buffer(1 << 16)
# A port that is not in connect_ports of rave.yaml.
_DISCARD_ADDRESS, _CONNECT_TIMEOUT_S = ("127.0.0.1", 9), 0.5
_KEEPS_CONNECTIONS = "it can keep open what it closes, and so take all connections to the bus (LimitNOFILE=)"
_MANY_POLLED = 4 * MAX_POLLED


def _call(name: str, *arguments: object) -> int:
    """The result of a system call; raises OSError."""
    number = (_CALL_NUMBERS | _COMMON_CALL_NUMBERS).get(name)
    if number is None:
        raise OSError(errno.EINVAL, f"the number of {name} is not known for {platform.machine()}")
    # As wide as a register: the seventh argument is on the stack, where an int would leave the upper half unset.
    longs = (ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments)
    return _checked(_libc.syscall(number, *longs))


def _checked(result: int) -> int:
    """The result of a function of libc; raises OSError for -1."""
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _kill(sibling: int) -> str:
    os.kill(sibling, 0)
    return f"it can send signals to process {sibling}"


def _kill_group(sibling: int) -> str:
    os.killpg(os.getpgid(sibling), 0)
    return f"it can send signals to the process group of {sibling}"


def _pidfd_signal(sibling: int) -> str:
    descriptor = os.pidfd_open(sibling)
    try:
        signal.pidfd_send_signal(descriptor, 0)
    finally:
        os.close(descriptor)
    return f"it can send signals to process {sibling} by a descriptor"


def _set_owner(sibling: int) -> str:
    return _on_socket(
        lambda end: fcntl.fcntl(end, fcntl.F_SETOWN, sibling), "it can have the kernel send signals to others"
    )


def _set_owner_ex(sibling: int) -> str:
    owner = struct.pack("ii", 1, sibling)
    return _on_socket(
        lambda end: fcntl.fcntl(end, _F_SETOWN_EX, owner), "it can have the kernel send signals to others"
    )


def _set_signal(_sibling: int) -> str:
    return _on_socket(
        lambda end: fcntl.fcntl(end, _F_SETSIG, signal.SIGTERM), "it can choose the signal that the kernel sends"
    )


def _fiosetown(sibling: int) -> str:
    return _owner_by_ioctl(_FIOSETOWN, sibling)


def _siocspgrp(sibling: int) -> str:
    return _owner_by_ioctl(_SIOCSPGRP, sibling)


def _owner_by_ioctl(request: int, sibling: int) -> str:
    owner = struct.pack("i", sibling)
    return _on_socket(lambda end: fcntl.ioctl(end, request, owner), "it can have the kernel send signals to others")


def _on_socket(attempt: Callable[[socket.socket], object], outcome: str) -> str:
    one, other = socket.socketpair()
    with one, other:
        attempt(one)
    return outcome


def _prlimit(sibling: int) -> str:
    resource.prlimit(sibling, resource.RLIMIT_NOFILE)
    return f"it can read and set the limits of process {sibling}"


def _setpriority(sibling: int) -> str:
    os.setpriority(os.PRIO_PROCESS, sibling, os.getpriority(os.PRIO_PROCESS, sibling))
    return f"it can slow process {sibling} down"


def _affinity(sibling: int) -> str:
    os.sched_setaffinity(sibling, os.sched_getaffinity(sibling))
    return f"it can choose the processors of process {sibling}"


def _ptrace(sibling: int) -> str:
    _checked(_libc.ptrace(_PTRACE_SEIZE, sibling, None, None))
    _libc.ptrace(_PTRACE_DETACH, sibling, None, None)
    return f"it can debug process {sibling}"


def _read_memory(sibling: int) -> str:
    space = ctypes.create_string_buffer(8)
    here = (ctypes.c_size_t * 2)(ctypes.addressof(space), 8)
    # There is no such address. The kernel reports either that, or that the call is forbidden.
    there = (ctypes.c_size_t * 2)(8, 8)
    try:
        _call("process_vm_readv", sibling, here, 1, there, 1, 0)
    except OSError as e:
        if e.errno != errno.EFAULT:
            raise
    return f"it can read the memory of process {sibling}"


def _take_descriptor(sibling: int) -> str:
    descriptor = os.pidfd_open(sibling)
    try:
        os.close(_call("pidfd_getfd", descriptor, 0, 0))
    finally:
        os.close(descriptor)
    return f"it can take open files of process {sibling}"


def _keyring(_sibling: int) -> str:
    _call("keyctl", _KEYCTL_GET_KEYRING_ID, _USER_KEYRING, 1)
    return "it reaches a keyring"


def _abstract_socket(_sibling: int) -> str:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0ravesvc-{secrets.token_hex(8)}")
    return "it can offer a socket that each process of the machine sees"


def _shared_memory_file(_sibling: int) -> str:
    return _new_file("/dev/shm")  # noqa: S108


def _lock_directory(_sibling: int) -> str:
    return _new_file("/run/lock")


def _new_file(directory: str) -> str:
    path = Path(directory, f"ravesvc-{secrets.token_hex(8)}")
    path.open("x").close()
    path.unlink()
    return f"it can write into {directory}, which all share"


def _message_queue(_sibling: int) -> str:
    next(Path("/dev/mqueue").iterdir(), None)
    return "it sees the message queues of the machine in /dev/mqueue"


def _flock(_sibling: int) -> str:
    with Path("/etc/passwd").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return "it can lock files that others wait for"


def _io_uring(_sibling: int) -> str:
    os.close(_call("io_uring_setup", 1, ctypes.create_string_buffer(120)))
    return "it can make system calls by io_uring, past every filter"


def _fork(_sibling: int) -> str:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return "it can start processes"


def _execute(_sibling: int) -> str:
    # There is no such program. The kernel reports either that, or that the call is forbidden.
    try:
        os.execve("/nonexistent", ["nonexistent"], {})  # noqa: S606
    except FileNotFoundError:
        return "it can become another program"


def _listen(_sibling: int) -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
    return "it can listen on a port"


def _other_port(_sibling: int) -> str:
    with socket.socket() as client:
        client.settimeout(_CONNECT_TIMEOUT_S)
        # No program has to listen there: it is enough that the kernel sends the request.
        with contextlib.suppress(ConnectionRefusedError, TimeoutError):
            client.connect(_DISCARD_ADDRESS)
    return "it can connect to any port"


def _fast_open(_sibling: int) -> str:
    with socket.socket() as client:
        client.settimeout(_CONNECT_TIMEOUT_S)
        with contextlib.suppress(ConnectionRefusedError, TimeoutError, BlockingIOError):
            client.sendto(b"", socket.MSG_FASTOPEN, _DISCARD_ADDRESS)
    return "it can connect to any port by sending"


def _other_protocol(_sibling: int) -> str:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_MPTCP).close()
    return "it can connect to any port by Multipath TCP"


def _other_type(_sibling: int) -> str:
    # This family has the type without a kernel module, which SCTP needs.
    socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).close()
    return "it can make sockets of types of which no port is checked (SCTP)"


def _near_address(_sibling: int) -> str:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        # No program has to listen there either.
        client.sendto(b"", ("127.8.8.8", _DISCARD_ADDRESS[1]))
    return "it can reach what listens on this machine and near it"


def _other_family(_sibling: int) -> str:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()
    return "it can talk to the kernel by netlink"


def _many_descriptors(_sibling: int) -> str | None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if hard <= 64 else f"it can open {count(hard, 'file')}, each a connection to the bus (LimitNOFILE=)"


def _unshare(_sibling: int) -> str:
    return _with_own_file_table(lambda: _checked(_libc.unshare(_CLONE_FILES)))


def _close_range(_sibling: int) -> str:
    highest = 2**32 - 1
    return _with_own_file_table(lambda: _call("close_range", highest, highest, _CLOSE_RANGE_UNSHARE))


def _with_own_file_table(leave: Callable[[], object]) -> str:
    """Let a thread call `leave`, and open more files in process and thread than `LimitNOFILE=` allows for one."""
    here: list[int] = []
    try:
        here += (os.dup(2) for _ in range(_HALF_OF_FILES))
        with ThreadPoolExecutor(1) as thread:
            thread.submit(leave).result()
            there = thread.submit(_reopen, here).result()
        for descriptor in here:
            os.fstat(descriptor)
    finally:
        for descriptor in here:
            os.close(descriptor)
    return f"it can open files without limit: {len(here) + there} by two threads (LimitNOFILE=)"


def _reopen(copies: list[int]) -> int:
    for descriptor in copies:
        os.close(descriptor)
    return len([os.dup(2) for _ in copies])


def _clone(_sibling: int) -> str:
    stack_end = ctypes.c_void_p(ctypes.addressof(_stack) + len(_stack))
    # The thread runs abs(), which needs none of the set-up that Python or libc do for a thread.
    _checked(_libc.clone(_libc.abs, stack_end, _CLONE_THREAD_FLAGS, None))
    return "it can start threads that open files without limit (LimitNOFILE=)"


def _send_descriptor(_sibling: int) -> str:
    rights = array("i", [2])
    return _on_socket(
        lambda end: end.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]), _KEEPS_CONNECTIONS
    )


def _send_descriptors(_sibling: int) -> str:
    # It sends none: that the call is not refused is enough.
    return _on_socket(lambda end: _checked(_libc.sendmmsg(end.fileno(), None, 0, 0)), _KEEPS_CONNECTIONS)


def _poll(_sibling: int) -> str:
    # Entries without a descriptor: that the call is not refused is enough.
    _checked(_libc.poll(struct.pack("ihh", -1, 0, 0) * _MANY_POLLED, _MANY_POLLED, 0))
    return _KEEPS_CONNECTIONS


def _select(_sibling: int) -> str:
    select.select([], [], [], 0)
    return _KEEPS_CONNECTIONS


def _asynchronous_io(_sibling: int) -> str:
    context = ctypes.c_ulong()
    _call("io_setup", 1, ctypes.byref(context))
    _call("io_destroy", context.value)
    return _KEEPS_CONNECTIONS


# By the name that `ravectl doctor` prints.
PROBES: dict[str, Probe] = {
    "kill": _kill,
    "killpg": _kill_group,
    "pidfd_send_signal": _pidfd_signal,
    "F_SETOWN": _set_owner,
    "F_SETOWN_EX": _set_owner_ex,
    "F_SETSIG": _set_signal,
    "FIOSETOWN": _fiosetown,
    "SIOCSPGRP": _siocspgrp,
    "prlimit": _prlimit,
    "setpriority": _setpriority,
    "sched_setaffinity": _affinity,
    "ptrace": _ptrace,
    "process_vm_readv": _read_memory,
    "pidfd_getfd": _take_descriptor,
    "keyctl": _keyring,
    "abstract socket": _abstract_socket,
    "/dev/shm": _shared_memory_file,  # noqa: S108
    "/run/lock": _lock_directory,
    "/dev/mqueue": _message_queue,
    "flock": _flock,
    "io_uring": _io_uring,
    "fork": _fork,
    "exec": _execute,
    "listen": _listen,
    "other ports": _other_port,
    "TCP Fast Open": _fast_open,
    "Multipath TCP": _other_protocol,
    "SOCK_SEQPACKET": _other_type,
    "near addresses": _near_address,
    "netlink": _other_family,
    "open files": _many_descriptors,
    "unshare": _unshare,
    "close_range": _close_range,
    "clone": _clone,
    "sendmsg": _send_descriptor,
    "sendmmsg": _send_descriptors,
    "poll": _poll,
    "select": _select,
    "io_setup": _asynchronous_io,
}


def attempt(name: str, sibling: int) -> str | None:
    """Run the probe `name` of PROBES: what it could do, or why it proves nothing; None if the sandbox holds."""
    try:
        os.getpgid(sibling)
        return PROBES[name](sibling)
    except OSError as e:
        return None if e.errno in _REFUSALS else f"it could not be tried: {e.strerror}"


def attempt_all(sibling: int) -> dict[str, str | None]:
    """Run all of PROBES; the outcome of each as by `attempt`. `sibling` is the PID of a process of the same user."""
    return {name: attempt(name, sibling) for name in PROBES}
