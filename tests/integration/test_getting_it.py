"""From a checkout to packages where no machine can be booted, and from a checkout to a bot with pip alone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testbed.build import checkout_files
from testbed.machine import Machine
from testbed.root import Root, build_root

from tests.integration.conftest import CHECKOUT, eventually
from tests.integration.manual import README, commands
from tests.integration.test_readme import terminals

# A Debian with next to nothing: what `make deb` asks for is installed, what a build needs can be.
_TOOLS = ("debian-archive-keyring", "git", "make", "mmdebstrap", "passwd", "python3", "systemd-container")


def bare_root() -> Root:
    needed = sorted({*build_root(CHECKOUT).packages} - {"lintian"})
    start = ("--as-pid2", "sleep", "infinity")
    return Root(name="bare", packages=_TOOLS, downloads=tuple(needed), start=start)


def pack(archive: Path) -> None:
    """The checkout as a tar file, in a directory `ravesvc`."""
    with tarfile.open(archive, "w") as tar:
        for name in checkout_files(CHECKOUT):
            tar.add(CHECKOUT / name, f"ravesvc/{name}")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A Debian 13 with a checkout in /root/ravesvc."""
    archive = tmp_path_factory.mktemp("checkout") / "checkout.tar"
    pack(archive)
    with Machine(bare_root()) as machine:
        machine.copy_in(archive, "/root/checkout.tar")
        machine.run(["tar", "-C", "/root", "--no-same-owner", "-xf", "/root/checkout.tar"])
        yield machine


def test_make_deb_where_no_machine_can_be_started(bare: Machine) -> None:
    """Without the right to mount, as in most containers."""
    limited = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    done = bare.run([*limited, "make", "-C", "/root/ravesvc", "deb"], check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no machine can be started here" in done.stderr
    assert "building the packages on this machine itself" in done.stderr
    built = {file.name.partition("_")[0] for file in bare.path("/root/ravesvc/build").glob("*.deb")}
    assert built == {"rave-orchestrator", "rave-simulator"}
    # And not again without need.
    again = bare.run([*limited, "make", "-C", "/root/ravesvc", "deb"], check=False)
    assert "no machine" not in again.stderr


def test_the_plain_line_of_the_readme(bare: Machine) -> None:
    (line,) = re.findall(r"`(apt-get build-dep [^`]*dpkg-buildpackage[^`]*)`", README)
    bare.run(["sh", "-ec", f"cd /root/ravesvc && {line.replace('build-dep', '-y build-dep')}"], timeout=300)
    built = sorted(file.name.partition("_")[0] for file in bare.path("/root").glob("*.deb"))
    assert built == ["rave-orchestrator", "rave-simulator"]
    depends = bare.run(["sh", "-c", "dpkg-deb --field /root/rave-orchestrator_*.deb Depends"]).stdout
    assert "python3-pystemd" in depends


# Of the host's programs a laptop's terminal has these: no compiler, no systemctl.
_PROGRAMS = ("cat", "id", "mkdir", "openssl", "tee", "uname")
_NOBODY = 65534


class Laptop:
    """The home directory of an ordinary user of this host, with a checkout in `ravesvc`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        programs = home / "programs"
        programs.mkdir()
        for name in _PROGRAMS:
            (programs / name).symlink_to(str(shutil.which(name, path="/usr/bin:/bin")))
        # Not a link: Python would look for its library beside it.
        (programs / "python3").write_text('#!/bin/sh\nexec /usr/bin/python3 "$@"\n')
        (programs / "python3").chmod(0o755)
        pack(home / "checkout.tar")
        subprocess.run(["tar", "-C", home, "--no-same-owner", "-xf", home / "checkout.tar"], check=True)
        subprocess.run(["chown", "-R", f"{_NOBODY}:{_NOBODY}", home], check=True)

    def type(self, lines: list[str]) -> subprocess.Popen[str]:
        """Type lines into a terminal of its own; what they print is read by the caller."""
        kept = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "SSL_")) or "proxy" in key}
        environment = kept | {"HOME": str(self.home), "PATH": str(self.home / "programs"), "LANG": "C.UTF-8"}
        return subprocess.Popen(
            ["/bin/sh", "-ec", "\n".join(lines)],
            cwd=self.home / "ravesvc",
            env=environment,
            user=_NOBODY,
            group=_NOBODY,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


@pytest.fixture
def laptop() -> Iterator[Laptop]:
    with tempfile.TemporaryDirectory(prefix="ravesvc-laptop-") as home:
        yield Laptop(Path(home))


class Reader:
    """Reads what a terminal prints, and interrupts what runs in it at the end."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.text = ""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                self.text += line

    def says(self, words: str) -> Callable[[], bool]:
        def said() -> bool:
            assert words in self.text or self.process.poll() is None, self.text
            return words in self.text

        return said

    def close(self) -> None:
        """Ctrl-C."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(30)
        self._thread.join()


def test_on_a_laptop_with_pip_alone(laptop: Laptop) -> None:
    first, second, third = terminals(commands("On a laptop, without systemd"))
    opened = [Reader(laptop.type(first))]
    try:
        eventually(opened[0].says("a Rave on https://localhost:8443"), "pip and the simulator are done", 300)
        opened.append(Reader(laptop.type(second)))
        eventually(opened[1].says("Connected to localhost"), "the bot is in the mesh", 60)
        said, _ = laptop.type(third).communicate(timeout=60)
        assert "Pong" in said
    finally:
        for each in reversed(opened):
            each.close()
    assert "Ended: stopped" in opened[1].text
    assert not [each.text for each in opened if "Traceback" in each.text]
    installed = {path.name.partition("-")[0] for path in laptop.home.glob("rave-venv/lib/python3*/site-packages/*")}
    assert "ravesvc" in installed
    assert "pystemd" not in installed
    said, _ = laptop.type([second[0], "ravesvc --example-config"]).communicate(timeout=30)
    assert said.startswith("# The configuration of ravesvc. After a change: start ravesvc again.\n\n")
    assert f"\n#state_path: {laptop.home}/.local/state/ravesvc/state.db\n" in said
    # Without a service to run in.
    said, _ = laptop.type([second[0], "rave-orchestrator || ravectl status || true"]).communicate(timeout=30)
    assert "the Python package pystemd is missing (pip install 'ravesvc[service]')" in said
    assert "ravectl: " in said
    assert "Traceback" not in said
