"""The whole parent on a private bus: real verbs through pystemd, a real Rave on loopback, a systemd that we play."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ravesvc import names
from ravesvc.common.log_fields import CAUSE_MESSAGE_IDS, LogEvent, message_id
from ravesvc.config import rave_yaml
from ravesvc.core import rave_client
from ravesvc.core import service as core_service
from ravesvc.errors import Code
from ravesvc.names import ExitStatus
from ravesvc.orchestrator import app as program
from ravesvc.version import __version__
from tests.unit.bus_fakes import connected
from tests.unit.conftest import BusDaemon, until
from tests.unit.fake_systemd import MESH, RUNNING, ended, systemd_on
from tests.unit.parent_site import LOGIN_NEEDED, Site, call, get
from tests.unit.simulator_server import in_thread

Run = Callable[[Any], Any]


@pytest.mark.usefixtures("as_root")
async def test_what_rave_lists_is_started_shown_and_stopped(site: Site, bus_address: str) -> None:
    meshes = sorted(site.served.control.create(2, title="A film"))
    site.served.control.invite(meshes)

    async with site.running(bus_address) as (systemd, client, parent):
        await site.manager.hears("2 meshes, 2 disconnected")
        assert sorted(systemd.verbs) == [("start", mesh) for mesh in meshes]
        (shown,) = await call(client, "ListMeshes")
        assert shown == [[mesh, "A film", "disconnected", names.mesh_path(mesh)] for mesh in meshes]
        assert await get(client, "Status") == site.manager.status
        finished: list[Any] = []
        await client.match(
            f"type='signal',interface='{names.MANAGER_INTERFACE}',member='DiscoveryFinished'",
            lambda signal: finished.append([*signal.body]),
        )
        await in_thread(site.served.control.fail, "discovery", "403", times=1)
        assert await call(client, "Discover") == [2]
        await until(lambda: finished)
        assert finished[0][:2] == [2, 2]
        assert finished[0][2]
        await site.manager.hears("2 disconnected, discovery fails, stale since ")
        assert await get(client, "StaleSinceTimestamp") == await get(client, "LastDiscoveryTimestamp")
        assert await get(client, "DiscoveryError")
        assert [verb for verb, _ in systemd.verbs] == ["start", "start"], "a failed round changes nothing"
        assert await call(client, "Discover") == [3]
        await until(lambda: len(finished) == 2)
        assert finished[1] == [3, 2, ""]
        assert await get(client, "StaleSinceTimestamp") == 0
        await call(client, "StopMesh", "s", meshes[0])
        await site.manager.hears("1 disconnected, 1 held")
        assert systemd.verbs[2:] == [("stop", meshes[0])]
        os.kill(os.getpid(), signal.SIGTERM)
        assert await parent == ExitStatus.STOPPED
        assert "STOPPING=1" in site.manager.said
        assert len(systemd.verbs) == 3, "the bots are systemd's"


@pytest.mark.parametrize("listening", [True, False], ids=["silent", "refusing"])
def test_what_the_first_round_waits_for_is_in_the_status(
    run: Run, site: Site, bus_address: str, *, listening: bool
) -> None:
    async def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            host = f"localhost:{server.getsockname()[1]}"
            if not listening:
                server.close()
            site.configure()
            real = f'api: "https://{site.served.server}"'
            assert real in site.file.read_text()
            site.file.write_text(site.file.read_text().replace(real, f'api: "https://{host}"'))
            async with site.running(bus_address) as (_, client, _):
                await site.manager.hears("STATUS=Asking localhost: checking the session; 0 meshes")
                steps = [said.removeprefix("STATUS=Starting: ") for said in site.manager.said if "=Starting" in said]
                assert steps[1:] == ["reading the blocklist", "reading the store", "asking systemd which bots run"]
                if listening:
                    assert await get(client, "Status") == "Asking localhost: checking the session; 0 meshes"
                else:
                    # Long before the round has failed: that takes four attempts.
                    what = "reading the list of invited meshes"
                    reason = f"{what} failed: localhost can't be reached: Connection refused; next attempt"
                    first = "checking the session failed: localhost can't be reached: Connection refused"
                    await site.manager.hears(f"STATUS=Asking localhost: {what}, after this: {first}; 0 meshes")
                    await site.manager.hears(f"STATUS={reason}")
                    assert (await get(client, "Status")).startswith(reason)
                    assert await get(client, "DiscoveryError") == ""

    run(body())


@pytest.mark.usefixtures("as_root")
async def test_a_loss_that_is_not_believed_is_shown_with_the_time_since_when(site: Site, bus_address: str) -> None:
    site.served.control.invite(site.served.control.create(2))

    async with site.running(bus_address) as (systemd, client, _):
        await site.manager.hears("2 meshes, 2 disconnected")
        good = await get(client, "LastDiscoveryTimestamp")
        await in_thread(site.served.control.fail, "discovery", "empty", times=1)
        await call(client, "Discover")
        await site.manager.hears("2 disconnected, the loss of 2 is not believed, stale since 20")
        assert site.manager.status.endswith(" (ravectl discover --confirm-losses)")
        assert await get(client, "StaleSinceTimestamp") == good
        assert len(systemd.verbs) == 2
        await call(client, "Discover")
        await until(lambda: site.manager.status == "2 meshes, 2 disconnected")
        assert await get(client, "StaleSinceTimestamp") == 0


def test_a_kick_learnt_from_an_exit_status_is_also_a_leave_on_raves_side(
    run: Run, site: Site, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    (mesh,) = site.served.control.create()
    site.served.control.invite(mesh)
    site.configure(debug="true")

    async def body() -> None:
        async with site.running(bus_address) as (systemd, _, _):
            await site.manager.hears("1 mesh, 1 disconnected")
            systemd.change(mesh, **ended(ExitStatus.KICKED))
            await site.manager.hears("1 mesh, 1 blocked")
            await until(lambda: not site.served.simulator.world.mesh(mesh).invited)
            systemd.load(MESH)
            systemd.change(MESH, **ended(ExitStatus.KICKED))
            # Of a mesh that Rave does not know there is nothing to leave, which is no trouble either.
            await until(lambda: ("reset-failed", MESH) in systemd.verbs)
            site.served.control.fail("leave", "403")
            (other,) = site.served.control.create()
            systemd.load(other)
            systemd.change(other, **ended(ExitStatus.KICKED))
            await until(lambda: f"Mesh {other} could not be left on Rave's side" in caplog.text)

    run(body())
    assert site.served.session.auth_token not in caplog.text


@pytest.mark.usefixtures("as_root")
async def test_discovery_does_not_wait_for_a_leave(
    site: Site, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    (mesh,) = site.served.control.create()
    site.served.control.invite(mesh)
    site.served.control.fail("leave", "timeout")

    async with site.running(bus_address) as (systemd, client, _):
        await site.manager.hears("1 mesh, 1 disconnected")
        systemd.change(mesh, **ended(ExitStatus.KICKED))
        # The first half of it; what follows hangs.
        await until(lambda: not site.served.simulator.world.mesh(mesh).invited)
        (other,) = await in_thread(site.served.control.create)
        await in_thread(site.served.control.invite, other)
        async with asyncio.timeout(5):
            await call(client, "Discover")
            await until(lambda: ("start", other) in systemd.verbs)
        assert "could not be left" not in caplog.text


@pytest.mark.usefixtures("as_root")
async def test_what_cannot_be_reached_is_blocked_only_if_rave_answers(site: Site, bus_address: str) -> None:
    (mesh,) = site.served.control.create()
    site.served.control.invite(mesh)

    async with site.running(bus_address) as (systemd, client, _):
        await site.manager.hears("1 mesh, 1 disconnected")
        await in_thread(site.served.control.fail, "discovery", "403", times=1)
        systemd.change(mesh, **ended(ExitStatus.UNREACHABLE))
        await until(lambda: ("reset-failed", mesh) in systemd.verbs)
        await until(lambda: site.manager.status.startswith("1 mesh, 1 stopped, discovery fails, stale since "))
        # While it is known not to answer it is not even asked.
        systemd.load(MESH)
        systemd.change(MESH, **ended(ExitStatus.UNREACHABLE))
        await until(lambda: ("reset-failed", MESH) in systemd.verbs)
        assert site.served.control.state()["listings"]["begun"] == 2
        assert not site.blocklist.exists()
        systemd.unload(MESH)
        await call(client, "Discover")
        await until(lambda: site.manager.status == "1 mesh, 1 disconnected")
        systemd.change(mesh, **ended(ExitStatus.UNREACHABLE))
        await until(lambda: site.manager.status == "1 mesh, 1 blocked")
        await until(lambda: systemd.verbs[-1] == ("reset-failed", mesh))


async def test_a_parent_whose_discovery_breaks_ends_and_says_why(
    site: Site, bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_down(_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(core_service.Discovery, "_one_round", break_down)

    async with site.running(bus_address) as (_, _, parent):
        with pytest.raises(ZeroDivisionError):
            await parent
        assert "READY=1" in site.manager.said


def test_an_error_that_nobody_expected_is_an_exit_status_and_a_traceback(site: Site) -> None:
    done = run_program(site.file, change="async def _run(settings): raise ZeroDivisionError\napp._run = _run")
    assert done.returncode == ExitStatus.CRASHED
    assert "ZeroDivisionError" in done.stderr


async def test_the_name_comes_last(site: Site, bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(bus_address) as (thief,):
        start = core_service.Reconciler.start

        async def robbed(reconciler: core_service.Reconciler) -> None:
            await start(reconciler)
            await thief.request_name(names.BUS_NAME)

        monkeypatch.setattr(core_service.Reconciler, "start", robbed)
        async with site.running(bus_address) as (systemd, _, parent):
            systemd.load(MESH)
            with pytest.raises(program.RaveError, match="belongs to another process"):
                await parent
            assert "READY=1" not in site.manager.said


async def test_beside_another_parent_nothing_is_touched(site: Site, bus_address: str) -> None:
    # One that a parent would write anew.
    site.blocklist.write_text('{"version": 1, "entries": {}}')
    before = {file: file.read_bytes() for file in site.blocklist.parent.iterdir() if file.is_file()}

    async with connected(bus_address) as (other,):
        await other.request_name(names.BUS_NAME)
        async with site.running(bus_address) as (_, _, parent):
            with pytest.raises(program.RaveError, match=f"{names.BUS_NAME} belongs to another process"):
                await parent
    assert {file: file.read_bytes() for file in site.blocklist.parent.iterdir() if file.is_file()} == before


async def test_bots_that_run_are_left_running_when_the_bus_is_lost(
    site: Site, bus_daemon: BusDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    async with site.running(bus_daemon.address) as (systemd, _, parent):
        systemd.load(MESH, **RUNNING)
        await in_thread(site.served.control.wait, listings=1)
        bus_daemon.process.kill()
        assert await parent == ExitStatus.CRASHED
        assert systemd.verbs == []
    assert "The connection to the message bus is lost; the meshes run on" in caplog.text
    assert "left running" not in caplog.text


# Obstacles.


def lack_identity(site: Site) -> str:
    site.without("request_hash_key")
    return "No mesh is started: client_identity lacks request_hash_key (ravectl config check, as root, tells more)"


def lack_credentials(site: Site) -> str:
    site.credentials.unlink()
    return f"No mesh is started, because {LOGIN_NEEDED} (there are no credentials yet)"


def have_bad_credentials(site: Site) -> str:
    site.credentials.write_text("{")
    return f"No mesh is started, because {LOGIN_NEEDED} ({site.credentials} can't be used: "


def lack_token(site: Site) -> str:
    site.credentials.write_text(site.credentials.read_text().replace(site.served.session.auth_token, ""))
    return f"No mesh is started, because {LOGIN_NEEDED} (the credentials have no token)"


def have_bad_blocklist(site: Site) -> str:
    site.blocklist.write_text("{")
    site.credentials.unlink()  # the lesser trouble
    return f"No mesh is started: {site.blocklist} can't be used: "


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(
    "prepare", [lack_identity, lack_credentials, have_bad_credentials, lack_token, have_bad_blocklist]
)
async def test_an_obstacle_is_told_and_what_runs_goes_on(
    site: Site,
    bus_address: str,
    prepare: Callable[[Site], str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delattr(rave_client, "Api")  # there is no way to Rave, not even for a leave
    (mesh,) = site.served.control.create()
    site.served.control.invite(mesh)
    told = prepare(site)

    async with systemd_on(bus_address) as systemd, connected(bus_address) as (client,):
        systemd.load(MESH, **RUNNING)
        parent = asyncio.create_task(program._run(rave_yaml.load(site.file)))
        await site.manager.hears("READY=1")
        assert site.manager.status.startswith(told)
        assert site.manager.status.endswith("; 1 mesh, 1 disconnected")
        assert await get(client, "Status") == site.manager.status
        assert told in caplog.text
        (logged,) = [record for record in caplog.records if record.getMessage().startswith(told)]
        explained_apart = message_id(logged) == CAUSE_MESSAGE_IDS[LogEvent.NOTHING_STARTS, Code.LOGIN_NEEDED]
        assert explained_apart is (LOGIN_NEEDED in told)
        ((running,),) = await call(client, "ListMeshes")
        assert running[:3] == [MESH, "", "disconnected"]
        with pytest.raises(program.RaveError) as refused:
            await call(client, "Discover")
        assert str(refused.value.attributes["said"]).startswith(
            told.removeprefix("No mesh is started: ").removeprefix("No mesh is started, because ")[:60]
        )
        systemd.change(MESH, **ended(ExitStatus.UNREACHABLE))
        await site.manager.hears("; 1 mesh, 1 stopped")
        assert systemd.verbs == [("reset-failed", MESH)], "without a way to Rave nobody is to blame"
        systemd.change(MESH, **ended(ExitStatus.KICKED))
        await site.manager.hears("; 1 mesh, 1 blocked")
        # What can't be saved is left to the next parent.
        resets = 1 if prepare is have_bad_blocklist else 2
        await until(lambda: systemd.verbs == [("reset-failed", MESH)] * resets)
        assert site.served.control.state()["listings"]["begun"] == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert await parent == ExitStatus.STOPPED


# The program.


def run_program(file: Path, *arguments: str, user: int = 1000, change: str = "") -> subprocess.CompletedProcess[str]:
    """The program with a configuration, run by a user; `change` is done to its module before."""
    code = (
        "import os, sys; from ravesvc import names; names.CONFIG_FILE = sys.argv.pop(1)\n"
        f"os.geteuid = lambda: {user}\n"
        f"from ravesvc.orchestrator import app\n{change}\nsys.exit(app.main())"
    )
    command = [sys.executable, "-c", code, str(file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def call_main(monkeypatch: pytest.MonkeyPatch, file: Path) -> int:
    monkeypatch.setattr(names, "CONFIG_FILE", str(file))
    monkeypatch.setattr(program.log, "set_up", lambda *_, **__: None)
    monkeypatch.setattr(program.os, "geteuid", lambda: 1000)
    return program.main([])


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, "systemctl start rave-orchestrator"),
        (["--version"], 0, f"rave-orchestrator {__version__}\n"),
        (["start"], 2, "unrecognized arguments: start"),
        (["--verbose"], 2, "unrecognized arguments: --verbose"),
    ],
)
@pytest.mark.parametrize("user", [0, 1000])
def test_a_command_line_does_nothing_but_talk(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    words: str,
    user: int,
) -> None:
    monkeypatch.setattr(program.os, "geteuid", lambda: user)
    # What comes first of all that it does besides.
    monkeypatch.setattr(program.log, "set_up", lambda *_, **__: pytest.fail("it begins"))
    with pytest.raises(SystemExit) as ended:
        program.main(arguments)
    assert ended.value.code == status
    said = capsys.readouterr()
    assert words in said.out + said.err


def test_a_command_line_of_the_program_does_nothing_but_talk(site: Site) -> None:
    done = run_program(site.file, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"rave-orchestrator {__version__}\n", "")
    assert not site.state.exists()


def test_root_is_told_how_it_is_started(site: Site) -> None:
    done = run_program(site.file, user=0)
    assert done.returncode == ExitStatus.CONFIG
    assert "(systemctl start rave-orchestrator)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not site.state.exists()


def test_a_bad_configuration_is_an_exit_status_and_words(site: Site) -> None:
    site.configure(discovery_interval="soon")
    done = run_program(site.file)
    assert done.returncode == ExitStatus.CONFIG
    assert "discovery_interval" in done.stderr
    assert "Traceback" not in done.stderr


def test_authorities_that_can_not_be_used_end_it_in_words(site: Site, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    site.file.write_text(
        site.file.read_text().replace(str(site.served.state_dir.ca_file), str(tmp_path / "empty.pem"))
    )
    done = run_program(site.file)
    assert done.returncode == ExitStatus.CONFIG
    assert f"tls.ca_file: {tmp_path}/empty.pem is empty" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_bus_it_ends_in_words(
    site: Site, bus_daemon: BusDaemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bus_daemon.process.kill()
    bus_daemon.process.wait()
    bus_daemon.socket.unlink()
    site.configure(debug="true")
    with caplog.at_level(logging.INFO):  # which is put back at the end
        assert call_main(monkeypatch, site.file) == ExitStatus.CRASHED
        assert logging.getLogger().level == logging.DEBUG
    assert "cannot reach the bus" in caplog.text
    assert "Traceback" not in caplog.text
