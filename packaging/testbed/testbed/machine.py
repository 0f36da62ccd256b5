"""One running machine: a root with a writable layer in memory, its own network, process and control group trees."""

import hashlib
import itertools
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from testbed import keeper
from testbed.host import BedError, prepare, require_root
from testbed.root import Root, run_root

_BOOT_TIMEOUT = 60.0
_STOP_TIMEOUT = 30.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_numbers = itertools.count(1)


class CommandFailed(subprocess.CalledProcessError):
    """A command in a machine failed; the text ends with what it printed."""

    def __str__(self) -> str:
        said = "\n".join(text.strip() for text in (self.stdout, self.stderr) if text)
        return f"{super().__str__()}\n{said}"


class Machine:
    """A machine, running inside of a `with` block.

    leader: the process id, on the host, of the machine's first process.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._keeper: subprocess.Popen[str] | None = None
        self._console: IO[str] | None = None
        self._lock: IO[str] | None = None
        self.leader = 0

    def __enter__(self) -> Self:
        """Start the machine and wait until it is up. Raises BedError."""
        require_root()
        directory, self._lock = self._root.hold()
        group = f"ravesvc-testbed-{os.getpid()}-{next(_numbers)}"
        self._console = tempfile.TemporaryFile("a+", errors="replace")
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", "--propagation=private", sys.executable, "-I", keeper.__file__,
             str(directory), group, *self._root.start],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._console, text=True,
            start_new_session=True,  # so that Ctrl-C reaches the owner only, who then lets go
        )  # fmt: skip
        try:
            self.leader = self._wait_for_leader(self._keeper)
            if "--boot" in self._root.start:
                self._check_boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait_for_leader(self, process: subprocess.Popen[str]) -> int:
        assert process.stdout
        ready, _, _ = select.select([process.stdout], [], [], _BOOT_TIMEOUT)
        answer = process.stdout.readline().split() if ready else []
        if not answer:
            raise BedError(f"the machine did not start:\n{self.console()[-2000:]}")
        return int(answer[1])

    def _check_boot(self) -> None:
        state = self.run(["systemctl", "is-system-running", "--wait"], check=False).stdout.strip()
        if state != "running":
            failed = self.run(["systemctl", "list-units", "--failed", "--no-legend"], check=False).stdout
            raise BedError(f"the machine came up {state}:\n{failed}{self.console()[-2000:]}")

    def close(self) -> None:
        """Kill all that runs in the machine and remove every trace of it from the host."""
        if self._keeper is None or self._console is None:
            return
        # Its standard input closes, then its standard output is read to the end.
        try:
            self._keeper.communicate(timeout=_STOP_TIMEOUT)
        finally:
            self._keeper.kill()
            self._console.close()
            self._keeper = None
            if self._lock:
                self._lock.close()

    def run(
        self, command: Sequence[str], *, user: str | None = None, input: str | None = None,  # noqa: A002
        check: bool = True, timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run a command to its end. Raises CommandFailed if `check`, subprocess.TimeoutExpired after `timeout` s."""
        with self.spawn(
            command, user=user, stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL
        ) as process:
            try:
                stdout, stderr = process.communicate(input, timeout)
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        if check and process.returncode:
            raise CommandFailed(process.returncode, list(command), stdout, stderr)
        return subprocess.CompletedProcess(list(command), process.returncode, stdout, stderr)

    def spawn(
        self, command: Sequence[str], *, user: str | None = None, stdin: int | IO[Any] = subprocess.DEVNULL,
        stdout: int | IO[Any] = subprocess.PIPE, stderr: int | IO[Any] = subprocess.PIPE,
    ) -> subprocess.Popen[str]:  # fmt: skip
        """Start a command. It leads a process group: os.killpg(process.pid, ...) reaches it and its children."""
        return subprocess.Popen(
            self._enter(command, user), env=_environment(user), cwd="/", text=True, errors="replace", stdin=stdin,
            stdout=stdout, stderr=stderr, start_new_session=True,
        )  # fmt: skip

    def attach(self, command: Sequence[str]) -> int:
        """Run a command on our own standard input and output, and return its exit status."""
        if sys.stdin.isatty() and sys.stdout.isatty():
            # A terminal of the machine's own, which job control and password prompts need.
            command = ["script", "--quiet", "--return", "--command", shlex.join(command), "/dev/null"]
        return subprocess.call(self._enter(command, None), env=_environment(None), cwd="/")

    def _enter(self, command: Sequence[str], user: str | None) -> list[str]:
        group = f"/proc/{self.leader}/root/sys/fs/cgroup/{self._root.group}"
        join = ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec "$@"', group]
        # Root and directory explicitly: they are not those of the mount namespace if the host itself is a chroot.
        enter = ["nsenter", f"--target={self.leader}", "--all", "--root", "--wd"]
        return [*join, *enter, *(["runuser", "-u", user] if user else []), "--", *command]

    def path(self, name: str) -> Path:
        """A path in the machine as the host sees it. Symbolic links to absolute paths on the way lead astray."""
        return Path(f"/proc/{self.leader}/root") / name.lstrip("/")

    def copy_in(self, file: Path, destination: str) -> None:
        """Copy a file of the host to the path `destination`, with its permissions."""
        mode = f"{file.stat().st_mode & 0o777:o}"
        with file.open("rb") as content, self.spawn(
            ["install", "-D", f"--mode={mode}", "/dev/stdin", destination], stdin=content
        ) as process:  # fmt: skip
            _, errors = process.communicate()
        if process.returncode:
            raise CommandFailed(process.returncode, process.args, "", errors)

    def copy_packages_in(self, packages: Iterable[Path], directory: str) -> list[str]:
        """Copy .deb files of the host into a directory; returns their paths in the machine."""
        copied = {package: f"{directory}/{package.name}" for package in packages}
        for package, destination in copied.items():
            self.copy_in(package, destination)
        return list(copied.values())

    def install(self, packages: Iterable[Path]) -> None:
        """Install .deb files with apt, whose dependencies come from the root's own cache. Raises CommandFailed."""
        self._apt_install(self.copy_packages_in(packages, "/var/tmp"))

    def install_needed(self, packages: Iterable[Path]) -> None:
        """Install what .deb files depend on, and not themselves. Raises CommandFailed."""
        files = self.copy_packages_in(packages, "/var/tmp")
        plan = self.run(["apt-get", "--simulate", "install", *files]).stdout
        ours = {package.name.partition("_")[0] for package in packages}
        self._apt_install(set(re.findall(r"^Inst (\S+)", plan, re.M)) - ours)
        self.run(["rm", *files])

    def _apt_install(self, names: Iterable[str]) -> None:
        command = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "install", *names]
        self.run(command, timeout=180)

    def journal(self, *options: str) -> str:
        """The journal's text, of all units or as journalctl's options say."""
        return self.run(["journalctl", "--no-pager", "--quiet", *options]).stdout

    def console(self) -> str:
        """What the machine wrote to its console."""
        assert self._console
        self._console.seek(0)
        return self._console.read()

    def save_logs(self, directory: Path) -> None:
        """Write journal, units, apt's log and console to files in a directory, to look into a failure."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "console.txt").write_text(self.console())
        for name, command in {
            "journal": ["journalctl", "--no-pager", "--output=short-precise"],
            "units": ["systemctl", "--no-pager", "--full", "list-units", "--all"],
            "apt": ["cat", "/var/log/apt/term.log"],
        }.items():
            (directory / f"{name}.txt").write_text(self.run(command, check=False).stdout)


@contextmanager
def installed(packages: Iterable[Path], logs: Path) -> Iterator[Machine]:
    """A booted machine with the packages installed. If something fails, the directory `logs` gets its logs."""
    with Machine(run_root()) as machine:
        try:
            machine.install(packages)
            yield machine
        except Exception:
            machine.save_logs(logs)
            raise


@dataclass(frozen=True, kw_only=True)
class _InstalledRoot(Root):
    """What a machine that booted from the root `base` was when `install` had been called with .deb files.

    It lies beside them, for as long as they are there: to install them takes longer than all else that a machine
    does before its first test.
    """

    base: Root
    debs: tuple[Path, ...]
    install: Callable[[Machine, Iterable[Path]], None]

    def recipe(self) -> tuple[object, ...]:
        return (self.base.recipe(), *(hashlib.sha256(deb.read_bytes()).hexdigest() for deb in self.debs))

    def _directory(self) -> Path:
        return self.debs[0].parent

    def _fill(self, directory: Path, log: Path, lock: int) -> None:
        with Machine(self.base) as machine:
            self.install(machine, self.debs)
            subprocess.run(["cp", "-ax", f"{machine.path('/')}/.", directory], check=True)
        # It was open, and would be taken for damaged.
        shutil.rmtree(directory / "var/log/journal")
        (directory / "var/log/journal").mkdir()


def needed_root(debs: Iterable[Path]) -> Root:
    """The run root with all that the .deb files depend on, made by the first of all that ask for it."""
    return _installed("needed", run_root(), debs, Machine.install_needed)


def installed_root(debs: Iterable[Path]) -> Root:
    """The same with the .deb files themselves."""
    debs = tuple(debs)
    return _installed("installed", needed_root(debs), debs, Machine.install)


def _installed(
    name: str, base: Root, debs: Iterable[Path], install: Callable[[Machine, Iterable[Path]], None]
) -> Root:
    return _InstalledRoot(
        name=name, packages=(), start=base.start, suite=base.suite, group=base.group, base=base, debs=tuple(debs),
        install=install,
    )  # fmt: skip


class _HostRoot(Root):
    """The host's own file system, to see whether a machine starts at all."""

    def hold(self) -> tuple[Path, IO[str]]:
        """Nothing has to be made, or kept."""
        return Path("/"), Path(os.devnull).open()


def obstacle() -> str | None:
    """Why no machine can be started here, as in most containers; None if one can. Found out by starting one."""
    prepare()
    try:
        with Machine(_HostRoot(name="host", packages=(), start=("--as-pid2", "sleep", "infinity"))):
            return None
    except (BedError, OSError) as e:
        return str(e)


def _environment(user: str | None) -> dict[str, str]:
    return {
        "PATH": _PATH,
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        "HOME": "/" if user else "/root",
    }
