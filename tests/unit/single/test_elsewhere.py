"""The mode without systemd on a machine that has nothing which Linux alone has, such as one with macOS."""

from __future__ import annotations

import signal

from tests.unit.single.test_main import Program, site, started  # noqa: F401 - fixtures
from tests.unit.single_site import GREET, SingleSite

# What Python's documentation of these modules has for Linux alone, or for all but macOS.
LINUX_ALONE = """
# First, because socket imports selectors, which looks what there is.
import select
del select.epoll

import fcntl, os, resource, signal, socket, sys, time

FOREIGN = {
    fcntl: "F_ADD_SEALS F_GET_SEALS F_NOTIFY F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW F_SETSIG F_GETSIG F_SETPIPE_SZ",
    os: "O_DIRECT O_LARGEFILE O_NOATIME O_PATH O_RSYNC O_TMPFILE copy_file_range eventfd eventfd_read eventfd_write"
    " fdatasync getrandom getresgid getresuid getxattr listxattr memfd_create pidfd_open pipe2 posix_fadvise"
    " posix_fallocate removexattr sched_getaffinity sched_setaffinity sched_setscheduler setns setresgid setresuid"
    " setxattr splice unshare",
    resource: "RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_SIGPENDING prlimit",
    signal: "SIGCLD SIGPOLL SIGPWR SIGRTMAX SIGRTMIN SIGSTKFLT pidfd_send_signal sigtimedwait sigwaitinfo",
    socket: "AF_ALG AF_NETLINK AF_PACKET AF_TIPC AF_VSOCK MSG_CMSG_CLOEXEC MSG_CONFIRM MSG_ERRQUEUE MSG_MORE"
    " MSG_NOSIGNAL SCM_CREDENTIALS SOCK_CLOEXEC SOCK_NONBLOCK SO_BINDTODEVICE SO_DOMAIN SO_MARK SO_PASSCRED"
    " SO_PEERCRED SO_PEERSEC SO_PRIORITY SO_PROTOCOL TCP_CORK TCP_DEFER_ACCEPT TCP_KEEPIDLE TCP_QUICKACK TCP_SYNCNT"
    " TCP_USER_TIMEOUT",
    time: "CLOCK_BOOTTIME CLOCK_TAI clock_settime",
}
for module, names in FOREIGN.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
for name in "dbus_fast dbus_next pystemd watchdog.observers.inotify watchdog.observers.inotify_c".split():
    sys.modules[name] = None

def without_linux(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith(("/proc", "/sys", "/run/")):
        raise FileNotFoundError(2, "No such file or directory", arguments[0])
    # A name in the abstract namespace.
    if event in ("socket.bind", "socket.connect") and str(arguments[1])[:1] == "\\0":
        raise OSError(22, "Invalid argument")

sys.addaudithook(without_linux)
"""


def test_nothing_that_linux_alone_has_is_needed(site: SingleSite, started: list[Program]) -> None:  # noqa: F811
    site.own("greet.py", GREET)
    site.configure()
    # Commands of the operator's own are interrupted by a timer, a kick is saved with its time, files are locked.
    started.append(Program("--admin", "5", prelude=LINUX_ALONE))
    site.control.wait(connected=[site.mesh], timeout=20)
    assert site.control.chat(site.mesh, "?greet", user="ann", wait=5) == ["Hello, Ann!"]
    site.control.kick(site.mesh)
    site.control.wait(disconnected=[site.mesh], timeout=10)
    status, _, log = started[0].end(signal.SIGINT)
    assert status == 0, log
    assert list(site.blocked()) == [site.mesh]
    assert "Traceback" not in log
