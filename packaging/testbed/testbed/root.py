"""The file systems that machines start from: made once by mmdebstrap, then only read."""

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from testbed.host import BedError, apt_settings, cache, mirror, prepare, say

SUITE = "trixie"
# Names another for the machines that packages are installed in, such as forky.
SUITE_VARIABLE = "TESTBED_SUITE"

# Seconds after which a root that no test bed has used is removed. Each change of a recipe makes another root; the
# cache has those of other checkouts as well.
_UNUSED = 14 * 24 * 3600.0

_UNIT_DIRECTORY = "etc/systemd/system"

# Commands from outside run in this unit's control group: to systemd and polkit they look like what a service runs.
_COMMANDS_UNIT = """\
[Unit]
Description=Commands given from outside of the test bed

[Service]
ExecStart=sleep infinity
Delegate=yes

[Install]
WantedBy=multi-user.target
"""

# apt reads the lists of all of Debian at each run, for seconds, though offline it can install nothing but what was
# downloaded. Keep the paragraphs of that and of what is installed.
_SHORTEN_LISTS = r"""
cd /var/lib/apt/lists
{ dpkg-query --show --showformat='${Package}\n'; ls /var/cache/apt/archives | sed -n 's/_.*[.]deb$//p'; } > kept
for list in *_Packages; do
    awk 'NR == FNR { kept[$1]; next } $2 in kept' kept RS= ORS='\n\n' "$list" > shorter
    cat shorter > "$list"
done
rm kept shorter /var/cache/apt/*.bin
"""

# The packages must come with everything they need, so nothing recommended may help out unseen.
_APT_CONF = 'APT::Install-Recommends "false";\n'


@dataclass(frozen=True)
class Root:
    """A recipe for a root file system.

    suite: the Debian release, by its code name; packages: installed in it; downloads: kept in apt's cache with all
    they depend on, ready to be installed offline; files, links: text and targets by path; user: an account to make
    or ""; start: systemd-nspawn's options that say what runs in it; group: the control group, under the machine's,
    for commands from outside.
    """

    name: str
    packages: tuple[str, ...]
    start: tuple[str, ...]
    suite: str = SUITE
    downloads: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    user: str = ""
    group: str = ""

    def ensure(self) -> Path:
        """Return the directory of the root, making it first if need be. Raises BedError."""
        path, lock = self.hold()
        lock.close()
        return path

    def hold(self) -> tuple[Path, IO[str]]:
        """The same, and a lock: until it is closed no test bed removes the directory. Raises BedError."""
        path = self._directory() / f"{self.name}-{hashlib.sha256(repr(self.recipe()).encode()).hexdigest()[:16]}"
        lock = _lock_of(path).open("a")
        try:
            self._take(path, lock)
        except BaseException:
            lock.close()
            raise
        prune(self._directory(), time.time() - _UNUSED)
        return path, lock

    def recipe(self) -> tuple[object, ...]:
        """All that what is made depends on."""
        return (self.suite, self.packages, self.downloads, _SHORTEN_LISTS, self.files, self.links, self.user)

    def _directory(self) -> Path:
        return cache()

    def _take(self, path: Path, lock: IO[str]) -> None:
        fcntl.flock(lock, fcntl.LOCK_SH)
        while not path.is_dir():
            fcntl.flock(lock, fcntl.LOCK_UN)
            prepare()
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.is_dir():
                self._make(path, lock.fileno())
            # On the way from the one lock to the other another test bed may remove it.
            fcntl.flock(lock, fcntl.LOCK_SH)
        os.utime(path)

    def _make(self, path: Path, lock: int) -> None:
        say(f"making the {self.name} root: {path}")
        started = time.monotonic()
        partial = path.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            self._fill(partial, path.with_suffix(".log"), lock)
            partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        say(f"made it in {time.monotonic() - started:.0f} s")

    def _fill(self, directory: Path, log: Path, lock: int) -> None:
        self._bootstrap(directory, log, lock)
        self._furnish(directory)

    def _bootstrap(self, directory: Path, log: Path, lock: int) -> None:
        # If we die without a word, it is told to stop and clears up after itself.
        command = [
            "setpriv",
            "--pdeathsig=TERM",
            "mmdebstrap",
            "--mode=root",
            "--variant=apt",
            "--skip=cleanup/apt/lists,cleanup/apt/cache",
        ]
        command += [f"--aptopt={line}" for line in apt_settings()]
        command += [
            f"--include={','.join(self.packages)}",
            "--customize-hook=APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get clean",
        ]
        if self.user:
            command.append(f'--customize-hook=chroot "$1" useradd --create-home {self.user}')
        if self.downloads:
            fetch = "apt-get -y --no-install-recommends --download-only install"
            command.append(f"--customize-hook=APT_CONFIG=$MMDEBSTRAP_APT_CONFIG {fetch} {' '.join(self.downloads)}")
            command.append(f'--customize-hook=chroot "$1" sh -ec {shlex.quote(_SHORTEN_LISTS)}')
        with log.open("w") as output:
            process = subprocess.Popen(
                [*command, self.suite, str(directory), mirror()], stdout=output, stderr=output, pass_fds=[lock]
            )
            try:
                status = process.wait()
            except BaseException:
                # Only when it has cleared up may the directory go.
                process.terminate()
                process.wait()
                raise
        if status:
            tail = "\n".join(log.read_text().splitlines()[-15:])
            raise BedError(f"mmdebstrap could not make the {self.name} root, see {log}:\n{tail}")

    def _furnish(self, directory: Path) -> None:
        for name, text in self.files:
            (directory / name).write_text(text)
        for name, target in self.links:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).symlink_to(target)


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")


def prune(directory: Path, before: float) -> None:
    """Remove the roots in the cache that were last used `before` a time, and what killed makers have left of others.

    What a test bed uses or makes is locked, and stays. So do the lock files, since others may wait for them.
    """
    for file in directory.glob("*-*.lock"):
        with file.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _prune_one(file.with_suffix(""), before)


def _prune_one(path: Path, before: float) -> None:
    partial = path.with_suffix(".partial")
    if path.is_dir() and path.stat().st_mtime < before:
        say(f"removing a root that was not used for two weeks: {path}")
        shutil.rmtree(partial, ignore_errors=True)
        # So that half of it, should we be killed, is not taken for a root.
        path.rename(partial)
        path.with_suffix(".log").unlink(missing_ok=True)
    shutil.rmtree(partial, ignore_errors=True)


def run_root() -> Root:
    """A Debian that boots, with our packages' dependencies at hand but not installed.

    It is the release that TESTBED_SUITE names, or Debian 13.
    """
    return Root(
        name="run",
        suite=os.environ.get(SUITE_VARIABLE) or SUITE,
        # curl for its libraries: the tests' MongoDB server wants them.
        packages=(
            "systemd", "systemd-sysv", "dbus", "polkitd", "python3", "iproute2", "less", "passwd", "procps", "curl",
        ),
        downloads=(
            "dbus-broker", "libfaketime", "openssl", "python3-aiohttp", "python3-dbus-next", "python3-pymongo",
            "python3-pystemd", "python3-watchdog", "python3-websockets", "python3-yaml",
        ),
        files=(
            ("etc/hostname", "testbed\n"),
            ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 testbed\n"),
            ("etc/apt/apt.conf.d/50testbed", _APT_CONF),
            (f"{_UNIT_DIRECTORY}/testbed.service", _COMMANDS_UNIT),
        ),
        links=(
            (f"{_UNIT_DIRECTORY}/multi-user.target.wants/testbed.service", f"/{_UNIT_DIRECTORY}/testbed.service"),
            # They would ask for the network, and there is none.
            (f"{_UNIT_DIRECTORY}/apt-daily.timer", "/dev/null"),
            (f"{_UNIT_DIRECTORY}/apt-daily-upgrade.timer", "/dev/null"),
            # A login prompt on a console that has no keyboard.
            (f"{_UNIT_DIRECTORY}/console-getty.service", "/dev/null"),
        ),
        start=(
            # Bots confine themselves by the former, and systemd confines them by the last, as on a real machine.
            "--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self bpf",
            "--boot", "--notify-ready=yes", "--setenv=TERM=dumb", "systemd.show_status=yes",
            # That of systemd 262 fails where the kernel has none.
            "systemd.mask=dev-hugepages.mount",
        ),
        group="system.slice/testbed.service",
    )  # fmt: skip


def build_root(source: Path) -> Root:
    """A Debian 13, whatever is to be tested, with the build dependencies of the source package in `source`."""
    packages = {"build-essential", "lintian", "passwd", *_build_depends(source / "debian" / "control")}
    return Root(
        name="build", packages=tuple(sorted(packages)), user="builder", start=("--as-pid2", "sleep", "infinity")
    )


def _build_depends(control: Path) -> list[str]:
    if not control.exists():
        raise BedError(f"no source package here: {control} is missing")
    text = re.sub(r"^#.*\n", "", control.read_text(), flags=re.MULTILINE)
    fields = re.findall(r"^Build-Depends(?:-Indep|-Arch)?:((?:.*\n(?:[ \t].*\n)*))", text, flags=re.MULTILINE)
    # The first of alternatives, without version, architecture and build profile.
    names = (re.match(r"[a-z0-9+.-]+", item.strip()) for item in ",".join(fields).split(","))
    return [name[0] for name in names if name]
