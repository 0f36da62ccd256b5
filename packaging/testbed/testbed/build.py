"""From the checkout to packages: dpkg-buildpackage and lintian, in a Debian 13 of their own.

Where no machine can be started (in most containers, on some rented servers) it is done on the host itself, if that is
a Debian 13, and without lintian.
"""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

from testbed.host import BedError, locked, prepare, release, say
from testbed.machine import Machine, obstacle
from testbed.root import build_root, prune

# What no package contains and no package build reads: changing it calls for no new build.
_NOT_PACKAGED = (
    *(".ci/", ".editorconfig", ".github/", ".pre-commit-config.yaml", "CONTRIBUTING.md", "build/", "tests/"),
    *("packaging/bench/", "packaging/demo/", "packaging/release.py", "packaging/stats/", "packaging/testbed/"),
)

_BUILD = "dpkg-buildpackage -us -uc -b"
_LINTIAN = "lintian -EviI --pedantic --fail-on=error,warning"


def build(source: Path) -> list[Path]:
    """Build the packages of a source tree into its build/ and return the .deb files; at once if nothing has changed.

    build/ also gets the .changes file, build.txt and lintian.txt. Raises BedError if the build or lintian fails.
    """
    prepare()
    output = source / "build"
    output.mkdir(exist_ok=True)
    with locked(output / "lock"):
        files = source_files(source)
        digest = _digest(source, files)
        stamp = output / "digest"
        if not stamp.exists() or stamp.read_text() != digest:
            _clear(output)
            reason = obstacle()
            if reason is None:
                _build(source, files, output)
            else:
                _build_here(source, files, output, reason)
            stamp.write_text(digest)
    return sorted(output.glob("*.deb"))


def source_files(source: Path) -> list[str]:
    """What of a checkout the packages are built from."""
    return [name for name in checkout_files(source) if not name.startswith(_NOT_PACKAGED)]


def checkout_files(source: Path) -> list[str]:
    """The files of a checkout that git does not ignore, new ones included."""
    with tempfile.TemporaryDirectory() as scratch:
        # A repository of our own, in which every file is a new one: this works in an exported tree as well,
        # and git does not ask whose checkout it is.
        git = ["git", f"--git-dir={scratch}/git", f"--work-tree={source}"]
        subprocess.run([*git, "init", "--quiet"], check=True)
        listing = subprocess.run(
            [*git, "ls-files", "-z", "--others", "--exclude-standard"], cwd=source, check=True, capture_output=True
        ).stdout
    names = os.fsdecode(listing).split("\0")
    return sorted(name for name in names if name)


def export(source: Path, revision: str, directory: Path) -> None:
    """Write the files of a revision of a checkout into a directory, which becomes theirs alone. Raises BedError."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        archive = subprocess.run(["git", "archive", revision], cwd=source, check=True, capture_output=True)
    except subprocess.CalledProcessError as e:
        raise BedError(f"git does not know {revision}: {e.stderr.decode().strip()}") from e
    subprocess.run(["tar", "-x", "-C", directory], input=archive.stdout, check=True)


def _digest(source: Path, files: list[str]) -> str:
    digest = hashlib.sha256()
    for name in files:
        path = source / name
        content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        digest.update(f"{name}\0{path.lstat().st_mode:o}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _clear(output: Path) -> None:
    (output / "digest").unlink(missing_ok=True)
    for pattern in ("*.deb", "*.changes", "*.txt"):
        for path in output.glob(pattern):
            path.unlink()
    # Roots with what was built before.
    prune(output, time.time())


def _build(source: Path, files: list[str], output: Path) -> None:
    root = build_root(source)
    root.ensure()
    say("building the packages")
    started = time.monotonic()
    with Machine(root) as machine, tempfile.TemporaryDirectory() as scratch:
        archive = _archive(source, files, Path(scratch))
        machine.copy_in(archive, "/srv/source.tar")
        machine.run(["install", "-d", "-o", "builder", "/srv/build", "/srv/build/source"])
        _step(machine, f"cd source && tar -xf /srv/source.tar && {_BUILD}", output / "build.txt")
        _collect(machine.path("/srv/build"), output)
        say("checking them with lintian")
        _step(machine, f"{_LINTIAN} *.changes", output / "lintian.txt")
    say(f"built and checked them in {time.monotonic() - started:.0f} s:\n{_tail(output / 'lintian.txt')}")


def _build_here(source: Path, files: list[str], output: Path, reason: str) -> None:
    say(f"no machine can be started here, because {reason.strip()}")
    if release() not in (13, None):
        raise BedError("the packages can be built here on Debian 13 alone: see Install in README.md")
    say("building the packages on this machine itself, without lintian; what that needs stays installed")
    with tempfile.TemporaryDirectory() as scratch, (output / "build.txt").open("w") as log:
        archive, tree = _archive(source, files, Path(scratch)), Path(scratch) / "source"
        tree.mkdir()
        subprocess.run(["tar", "-xf", archive], cwd=tree, check=True)
        script = f"apt-get -q update; apt-get -q -y build-dep ./ && {_BUILD}"
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(["sh", "-c", script], cwd=tree, env=environment, stdout=log, stderr=log)
        if done.returncode:
            raise BedError(f"the packages could not be built, see {log.name}:\n{_tail(Path(log.name))}")
        _collect(Path(scratch), output)


def _archive(source: Path, files: list[str], scratch: Path) -> Path:
    archive = scratch / "source.tar"
    with tarfile.open(archive, "w") as tar:
        for name in files:
            tar.add(source / name, name, filter=_owned_by_nobody)
    return archive


def _collect(directory: Path, output: Path) -> None:
    for package in [*directory.glob("*.deb"), *directory.glob("*.changes")]:
        (output / package.name).write_bytes(package.read_bytes())


def _owned_by_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _step(machine: Machine, script: str, log: Path) -> None:
    """Run a shell command as the builder, what it prints goes to `log`."""
    done = machine.run(
        ["sh", "-c", f"cd /srv/build && exec 2>&1 && {script}"], user="builder", check=False, timeout=900
    )
    log.write_text(done.stdout)
    if done.returncode:
        raise BedError(f"the packages do not pass, see {log}:\n{_tail(log)}")


def _tail(log: Path) -> str:
    # Without lintian's explanations.
    return "\n".join([line for line in log.read_text().splitlines() if not line.startswith("N:")][-60:])
