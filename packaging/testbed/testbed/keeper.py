"""Holds one machine for its owner, and clears it away when the owner lets go.

    unshare --mount --propagation=private python3 keeper.py ROOT GROUP SYSTEMD-NSPAWN-OPTION...

All mounts live in this process's mount namespace, so they end with it. All processes of the machine live in the
control group GROUP (a name), which is killed and removed at the end. The end is when standard input closes, which
happens however the owner dies, or a signal, or the machine's own end. Writes `ready PID` to standard output once the
machine is up, PID being its first process. The machine's console goes to standard error.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OVERLAY = Path("/run/machine")
_READY = "/run/ready"


def main(root: str, group: str, options: list[str]) -> int:
    """Run the machine until told to stop; 0 if it was ever ready."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    _mount(root)
    cgroup = _CGROUPS / group
    cgroup.mkdir()
    try:
        return _run(cgroup, options)
    finally:
        _remove(cgroup)


def _mount(root: str) -> None:
    # Of the host's mixed hierarchies the machine sees the unified one only. And a /run of our own, because
    # systemd-nspawn leaves its locks and sockets there.
    _mount_one("cgroup2", _CGROUPS, "rw")
    _mount_one("tmpfs", Path("/run"), "mode=755")
    upper, work, merged = (_OVERLAY / name for name in ("upper", "work", "root"))
    for directory in (upper, work, merged):
        directory.mkdir(parents=True)
    _mount_one("overlay", merged, f"lowerdir={root},upperdir={upper},workdir={work}")


def _mount_one(kind: str, target: Path, options: str) -> None:
    subprocess.run(["mount", "-t", kind, "-o", options, kind, str(target)], check=True)


def _run(cgroup: Path, options: list[str]) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(_READY)
        nspawn = subprocess.Popen(
            # The shell moves itself, and so all that follows, into the control group.
            ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec systemd-nspawn "$@"', str(cgroup),
             "--register=no", "--keep-unit", "--machine=testbed", f"--directory={_OVERLAY / 'root'}",
             "--private-network", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
             "--console=read-only", *options],
            env=os.environ | {"NOTIFY_SOCKET": _READY}, stdin=subprocess.DEVNULL, stdout=sys.stderr,
        )  # fmt: skip
        end = os.pidfd_open(nspawn.pid)
        leader = _wait_until_ready(notices, end)
        if leader is None:
            return 1
        print(f"ready {leader}", flush=True)
        # What the machine's manager goes on to say is of no interest, but unread it would fill the socket's queue,
        # and then the manager would wait for us, for ever.
        while notices in select.select([notices, sys.stdin, end], [], [])[0]:
            notices.recv(4096)
        return 0


def _wait_until_ready(notices: socket.socket, end: int) -> str | None:
    leader = None
    while True:
        readable, _, _ = select.select([notices, sys.stdin, end], [], [])
        if notices not in readable:
            return None
        for line in notices.recv(4096).decode().splitlines():
            name, _, value = line.partition("=")
            if name == "X_NSPAWN_LEADER_PID":
                leader = value
            elif name == "READY":
                return leader


def _remove(cgroup: Path) -> None:
    (cgroup / "cgroup.kill").write_text("1")
    # The kernel reports an empty group a moment after the last process is gone; nothing can refuse to die.
    while "populated 1" in (cgroup / "cgroup.events").read_text():
        time.sleep(0.01)
    for directory in sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True):
        directory.rmdir()
    cgroup.rmdir()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
