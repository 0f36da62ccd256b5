"""The test bed itself: what the other integration tests stand on."""

import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from testbed.build import source_files
from testbed.host import BedError
from testbed.machine import CommandFailed, Machine, installed_root
from testbed.root import Root, build_root, prune, run_root

CHECKOUT = Path(__file__).parents[2]
_GROUPS = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines() if " cgroup" in line]
# Where the keeper mounts, and what it and systemd-nspawn leave under /run. All else is of others, who come and go.
_MOUNT_POINTS = ("/run", "/run/machine", "/run/machine/root", "/sys/fs/cgroup")
_FILES = ("/run/machine", "/run/ready", "/run/systemd/nspawn")


@dataclass(frozen=True)
class Traces:
    """What a machine could leave behind on the host: mounts where the test bed makes some, control groups, files."""

    mounts: frozenset[str]
    groups: frozenset[Path]
    files: frozenset[Path]

    @classmethod
    def here(cls, owner: int) -> "Traces":
        """Those of the machines that the process `owner` has at this moment."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        groups = (Path(top) for root in _GROUPS for top, _, _ in os.walk(root))
        ours = f"ravesvc-testbed-{owner}-"
        return cls(
            mounts=frozenset(line for line in mounts if line.split()[4] in _MOUNT_POINTS),
            groups=frozenset(path for path in groups if ours in str(path)),
            files=frozenset(path for path in map(Path, _FILES) if path.exists()),
        )


def _descendants(pid: int) -> set[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {pid}.union(*(_descendants(int(child)) for child in children))


def _wait_for_end(pid: int) -> None:
    end = os.pidfd_open(pid)
    try:
        assert select.select([end], [], [], 20)[0], f"process {pid} is still there"
    finally:
        os.close(end)


@pytest.fixture(scope="module")
def bare() -> Iterator[Machine]:
    with Machine(run_root()) as machine:
        yield machine


def test_boots_without_a_failed_unit(bare: Machine) -> None:
    assert bare.run(["systemctl", "is-system-running"]).stdout == "running\n"
    assert bare.run(["ps", "-p1", "-ocomm="]).stdout == "systemd\n"
    assert bare.run(["systemctl", "list-units", "--failed", "--no-legend"]).stdout == ""


def test_is_the_release_that_was_asked_for(bare: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = run_root().suite
    assert f"VERSION_CODENAME={suite}\n" in bare.path("/etc/os-release").read_text()
    monkeypatch.setenv("TESTBED_SUITE", "forky")
    assert run_root().suite == "forky"
    assert build_root(CHECKOUT).suite == "trixie"


def test_has_a_loopback_and_nothing_else(bare: Machine) -> None:
    links = bare.run(["ip", "-brief", "address"]).stdout.splitlines()
    assert len(links) == 1
    assert "127.0.0.1/8" in links[0]


def test_does_not_show_the_host(bare: Machine) -> None:
    here = Path(__file__)
    assert not bare.path(str(here)).exists()
    assert "/host" not in {line.split()[4] for line in bare.path("/proc/1/mountinfo").read_text().splitlines()}


def test_commands_have_output_input_and_status(bare: Machine) -> None:
    done = bare.run(["sh", "-c", "cat; echo oh dear >&2; exit 7"], input="grüße", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "grüße", "oh dear\n")
    with pytest.raises(CommandFailed, match=r"status 7.*\n.*oh dear"):
        bare.run(["sh", "-c", "echo oh dear >&2; exit 7"])


def test_commands_run_as_a_service_would(bare: Machine) -> None:
    assert bare.run(["cat", "/proc/self/cgroup"]).stdout.endswith("0::/system.slice/testbed.service\n")
    assert bare.run(["id", "-un"]).stdout == "root\n"
    assert bare.run(["id", "-un"], user="nobody").stdout == "nobody\n"
    names = {line.partition("=")[0] for line in bare.run(["env"]).stdout.splitlines()}
    assert names <= {"PATH", "LANG", "TERM", "HOME", "PWD"}


def test_a_command_out_of_time_is_killed_with_its_children(bare: Machine) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        bare.run(["sh", "-c", "sleep 987 & sleep 987"], timeout=0.2)
    deadline = time.monotonic() + 5
    while bare.run(["pgrep", "-f", "sleep 987"], check=False).stdout and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not bare.run(["pgrep", "-xf", "sleep 987"], check=False).stdout


def test_a_manager_that_has_much_to_say_is_not_held_up(bare: Machine) -> None:
    """Each reload is told to the keeper in two datagrams; eleven reloads once filled its queue."""
    bare.run(["sh", "-ec", "for i in $(seq 20); do systemctl daemon-reload; done"], timeout=60)


def test_a_spawned_command_runs_beside_us(bare: Machine) -> None:
    with bare.spawn(["sh", "-c", "echo begun; exec sleep 60"]) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        os.killpg(process.pid, signal.SIGTERM)
    assert process.returncode


def test_copies_files_with_their_permissions(bare: Machine, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 1000)
    file.chmod(0o750)
    bare.copy_in(file, "/srv/new/copy")
    assert bare.path("/srv/new/copy").read_bytes() == file.read_bytes()
    assert bare.run(["stat", "-c%a %U", "/srv/new/copy"]).stdout == "750 root\n"


def test_brings_back_logs(bare: Machine, tmp_path: Path) -> None:
    bare.run(["systemd-cat", "-t", "somebody", "echo", "was here"])
    bare.run(["journalctl", "--sync"])
    assert "was here" in bare.journal("-t", "somebody")
    bare.save_logs(tmp_path / "logs")
    assert "was here" in (tmp_path / "logs" / "journal.txt").read_text()
    assert "dbus.service" in (tmp_path / "logs" / "units.txt").read_text()
    assert "Multi-User System" in (tmp_path / "logs" / "console.txt").read_text()


def test_installs_a_package_whose_dependencies_come_from_debian(bare: Machine, tmp_path: Path) -> None:
    control = tmp_path / "needy" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(
        "Package: needy\nVersion: 1\nArchitecture: all\nDepends: python3-pystemd\n"
        "Maintainer: nobody <nobody@localhost>\nDescription: needs another package\n"
    )
    subprocess.run(["dpkg-deb", "--build", tmp_path / "needy"], check=True, stdout=subprocess.DEVNULL)
    assert bare.run(["python3", "-c", "import pystemd"], check=False).returncode
    bare.install([tmp_path / "needy.deb"])
    bare.run(["python3", "-c", "import pystemd"])


def test_packages_are_installed_once_for_all_machines(packages: list[Path]) -> None:
    path = installed_root(packages).ensure()
    assert path.parent == packages[0].parent
    assert (path / "usr/bin/ravectl").exists()
    assert list((path / "var/log/journal").iterdir()) == []
    made = (path / "usr").stat().st_ctime_ns
    with Machine(installed_root(packages)) as machine:
        machine.run(["ravectl", "--version"])
        machine.run(["rm", "-r", "/usr/share/doc"])
    assert (path / "usr/share/doc").is_dir()
    assert (path / "usr").stat().st_ctime_ns == made, "it was not made anew"


def test_leaves_nothing_behind() -> None:
    before = Traces.here(os.getpid())
    with Machine(run_root()) as machine:
        assert machine.path("/").is_dir()
        assert Traces.here(os.getpid()).groups > before.groups
        processes = {os.pidfd_open(pid) for pid in _descendants(machine.leader)}
        assert len(processes) > 3
    assert Traces.here(os.getpid()) == before
    for process in processes:
        assert select.select([process], [], [], 0)[0], "a process of the machine lives on"
        os.close(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_leaves_nothing_behind_when_its_owner_is_killed(number: signal.Signals) -> None:
    script = (
        "import signal\nfrom testbed.machine import Machine\nfrom testbed.root import run_root\n"
        # Who runs the tests in the background ignores it, and so would we.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with Machine(run_root()) as machine:\n"
        "    print(machine._keeper.pid, machine.leader, flush=True)\n"
        "    machine.run(['sleep', '60'])\n"
    )
    path = Path(__file__).parents[2] / "packaging" / "testbed"
    with subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(path)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as owner:  # fmt: skip
        before = Traces.here(owner.pid)
        assert owner.stdout
        keeper, leader = (int(word) for word in owner.stdout.readline().split())
        assert Traces.here(owner.pid).groups > before.groups
        ends = [os.pidfd_open(keeper), os.pidfd_open(leader)]
        owner.send_signal(number)
    for end in ends:
        assert select.select([end], [], [], 20)[0], "the machine lives on"
        os.close(end)
    assert Traces.here(owner.pid) == before


def test_two_run_side_by_side() -> None:
    ready = threading.Barrier(2)

    def run(name: str) -> tuple[str, list[str]]:
        with Machine(run_root()) as machine:
            machine.run(["touch", f"/srv/{name}"])
            # Both hold the same port at the same time.
            listen = "import socket; it = socket.create_server(('', 8443)); print('listening', flush=True); input()"
            with machine.spawn(["python3", "-c", listen], stdin=subprocess.PIPE) as server:
                assert server.stdout
                answer = server.stdout.readline()
                ready.wait(60)
                files = sorted(path.name for path in machine.path("/srv").iterdir())
                server.communicate("\n")
        return answer, files

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(run, ["one", "two"]))
    assert results == [("listening\n", ["one"]), ("listening\n", ["two"])]


def test_a_machine_that_cannot_start_says_why_and_leaves_nothing() -> None:
    before = Traces.here(os.getpid())
    with pytest.raises(BedError, match="no-such-option"), Machine(replace(run_root(), start=("--no-such-option",))):
        pass
    assert Traces.here(os.getpid()) == before


def test_a_root_that_cannot_be_made_leaves_no_half_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(BedError, match="no-such-release"):
        Root(name="broken", suite="no-such-release", packages=("less",), start=()).ensure()
    assert not [path for path in (tmp_path / "ravesvc-testbed").iterdir() if path.is_dir()]


def test_a_root_is_removed_when_nobody_has_used_it_for_long(tmp_path: Path) -> None:
    old, kinds = time.time() - 100, ("run-new", "run-old", "run-held", "run-killed", "run-made", "other")
    for name in kinds:
        (tmp_path / f"{name}.lock").touch()
        directory = tmp_path / (f"{name}.partial" if name in ("run-killed", "run-made") else name)
        (directory / "etc").mkdir(parents=True)
        if name != "run-new":
            os.utime(directory, (old, old))
    with (tmp_path / "run-held.lock").open() as user, (tmp_path / "run-made.lock").open() as maker:
        fcntl.flock(user, fcntl.LOCK_SH)
        fcntl.flock(maker, fcntl.LOCK_EX)
        prune(tmp_path, time.time() - 50)
    left = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert left == {"run-new", "run-held", "run-made.partial", "other"}
    assert len(list(tmp_path.glob("*.lock"))) == len(kinds)


def test_a_machine_keeps_its_root(bare: Machine) -> None:
    assert bare.leader
    path = run_root().ensure()
    assert path.stat().st_mtime > time.time() - 60
    with path.with_suffix(".lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_build_dependencies_are_read_from_the_control_file(tmp_path: Path) -> None:
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian" / "control").write_text(
        "Source: x\nBuild-Depends:\n debhelper-compat (= 13),\n# a comment\n one | two, three:any [x32] <!nocheck>\n"
        "Build-Depends-Indep: four\n\nPackage: x\nDepends: five\n"
    )
    assert {"debhelper-compat", "one", "three", "four"} <= set(build_root(tmp_path).packages)
    assert not {"two", "five"} & set(build_root(tmp_path).packages)


def test_the_source_is_what_git_does_not_ignore(tmp_path: Path) -> None:
    for name in (".gitignore", "kept", "dropped.pyc", "deep/kept", "tests/unit/test_x.py", "build/old.deb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("*.pyc\n")
    assert source_files(tmp_path) == [".gitignore", "deep/kept", "kept"]
