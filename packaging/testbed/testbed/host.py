"""What the host must have: root's rights, a few Debian packages, a mirror."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_KEYRINGS = Path("/usr/share/keyrings")
_COMMANDS = {"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container", "git": "git"}

# Settings without which the host's own apt could not read the mirror either.
_APT_SETTINGS = ("Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until", "Acquire::Check-Date")


class BedError(Exception):
    """The test bed cannot go on; the message is for people."""


def say(message: str) -> None:
    """Tell the person who waits what is going on."""
    print(f"testbed: {message}", file=sys.stderr, flush=True)


def require_root() -> None:
    """Raise BedError unless we are root."""
    if os.geteuid() != 0:
        raise BedError("this needs root, for mounts and namespaces: run it as root or with sudo")


def cache() -> Path:
    """Where roots are kept from one run to the next. May be deleted whenever no test bed runs."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "ravesvc-testbed"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold an exclusive lock on a file, so that several test beds can run side by side.

    Yields its descriptor: a child that inherits it holds the lock as well, even when we die.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def prepare() -> None:
    """Install with apt what the host lacks."""
    require_root()
    with locked(cache() / "host.lock"):
        missing = [package for command, package in _COMMANDS.items() if not shutil.which(command)]
        if not any(_KEYRINGS.glob("debian-archive-trixie-automatic.*")):
            missing.append("debian-archive-keyring")
        if missing:
            _install(missing)


def _install(packages: list[str]) -> None:
    say(f"installing {', '.join(packages)} with apt")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # A foreign source that cannot be read is no reason to stop: if it matters, the next command says so.
    subprocess.run(["apt-get", "-q", "update"], env=environment, stdout=sys.stderr)
    command = [
        "apt-get",
        "-q",
        "-y",
        "-o",
        "DPkg::Lock::Timeout=300",
        "install",
        "--no-install-recommends",
        *packages,
    ]
    if subprocess.run(command, env=environment, stdout=sys.stderr).returncode:
        raise BedError(f"apt-get could not install {', '.join(packages)}")


def mirror() -> str:
    """The address of the Debian mirror that the host itself uses."""
    codename = _codename()
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for uri, release, component in (line.split() for line in listing.splitlines()):
        if release in (codename, "stable") and component == "main":
            return _first_of_list(uri) if uri.startswith("mirror+file:") else uri
    raise BedError(f"apt's sources name no mirror for Debian's {codename}")


def _codename() -> str:
    if name := _os_release("VERSION_CODENAME"):
        return name
    raise BedError("/etc/os-release names no VERSION_CODENAME: is this Debian?")


def release() -> int | None:
    """The number of the Debian release that this host has, None for one to come; 0 if it is no Debian."""
    number = _os_release("VERSION_ID")
    if _os_release("ID") != "debian":
        return 0
    return int(number) if number.isdecimal() else None


def _os_release(key: str) -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith(f"{key}="):
            return line.partition("=")[2].strip('"')
    return ""


def _first_of_list(uri: str) -> str:
    # Debian's cloud images keep their mirrors in a list, a line each, perhaps with weights behind the address.
    listed = Path(uri.removeprefix("mirror+file:").rstrip("/")).read_text().splitlines()
    return next(line.split()[0] for line in listed if line and not line.startswith("#"))


def apt_settings() -> list[str]:
    """The host's apt settings for its mirror (a proxy, for one), each as a line of apt.conf."""
    command = ["apt-config", "dump", "--no-empty", "--format", '%F "%v";%n', *_APT_SETTINGS]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
