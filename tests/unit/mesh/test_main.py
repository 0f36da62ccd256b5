"""`python -m ravesvc.mesh` as its unit starts it: files, bus and service manager are real files and sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ravesvc import names
from ravesvc.bus.matching import name_changes
from ravesvc.errors import Code, RaveError
from ravesvc.mesh import main as program
from ravesvc.names import Announcement, ExitStatus
from tests.unit.bot_under_test import ask, settings_for
from tests.unit.bus_fakes import connected
from tests.unit.conftest import BusDaemon, until
from tests.unit.fake_manager import FakeManager
from tests.unit.fake_parent import FakeParent, parent_on
from tests.unit.fake_systemd import new_mesh
from tests.unit.handed_over import hand_over
from tests.unit.marking import marks_its_tests
from tests.unit.simulator_server import Served, in_thread

ANN = 100_000_001

# Runs the program and writes down every import, with a line for each word to the service manager, of which READY is
# the first, and at the end every module in memory.
WATCHER = """
import os, runpy, sys
diary = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def hook(event, args):
    if event == "import":
        os.write(diary, f"import {args[0]}\\n".encode())
    elif event in ("socket.connect", "socket.sendto") and args[1] == os.environ["NOTIFY_SOCKET"]:
        os.write(diary, b"notify\\n")
sys.addaudithook(hook)
try:
    runpy.run_module("ravesvc.mesh", run_name="__main__", alter_sys=True)
finally:
    os.write(diary, "".join(f"module {name}\\n" for name in list(sys.modules)).encode())
"""


# As systemd does for OpenFile=: descriptors from 3 on, in the order of their names; a missing file has neither.
HAND_OVER = """
cd "$HANDED_OVER"
names= count=0
if [ -e settings ]; then exec 3<settings; names=settings count=1; fi
if [ -e session ]; then exec 4<session; names=$names:session count=2; fi
cd "$OLDPWD"
exec env LISTEN_PID=$$ LISTEN_FDS=$count LISTEN_FDNAMES=$names "$@"
"""


@pytest.fixture
@marks_its_tests("process")
def files(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with what is handed over, for the simulator."""
    directory = tmp_path / "handed-over"
    directory.mkdir()
    (directory / "settings").write_text(settings_for(served, 3).to_json())
    (directory / "session").write_text(served.session.to_json())
    monkeypatch.setenv("HANDED_OVER", str(directory))
    return directory


@contextlib.asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    words = ["sh", "-ec", HAND_OVER, "sh", sys.executable, "-P", "-W", "error", *arguments]
    bot = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
    try:
        yield bot
    finally:
        if bot.returncode is None:
            bot.kill()
        await bot.communicate()


async def test_nothing_is_imported_after_ready_and_nothing_dear_at_all(
    served: Served,
    bus_daemon: BusDaemon,
    manager: FakeManager,
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_daemon.address)
    diary = tmp_path / "diary"
    (mesh,) = served.control.create(title="A film")
    served.control.invite(mesh)

    async with started("-c", WATCHER, str(diary), mesh) as bot:
        await in_thread(served.control.wait, connected=[mesh], timeout=10)
        first = (await in_thread(served.control.connections))[mesh]
        for command in (
            "?ping",
            "?hello",
            "?info",
            "?status",
            "?help",
            "?help ping",
            "?meshinfo",
            "?truth",
            "?dare r",
        ):
            assert await in_thread(served.control.chat, mesh, command, wait=5), command
        async with connected(bus_daemon.address) as (bus,):
            await ask(bus, mesh, "GetStatus")
            await ask(bus, mesh, "RestartConnection")
            await in_thread(served.control.wait, reconnected={mesh: first}, timeout=10)
            second = (await in_thread(served.control.connections))[mesh]
            await in_thread(served.control.drop, mesh)
            await in_thread(served.control.wait, reconnected={mesh: second}, timeout=10)
        parent = FakeParent(served.session)
        parent.admin_users = {ANN}
        async with parent_on(bus_daemon.address, parent):
            for what in Announcement:
                await parent.announce(mesh, what)
            for command in (
                "?admin 5",
                "?setperm ping user",
                "?setperm pong user",
                "?removeperm ping",
                "?listperms",
                "?settings lang de",
                "?dare",
                "?modlog",
            ):
                assert await in_thread(served.control.chat, mesh, command, user="ann", wait=5), command
            assert await in_thread(served.control.chat, mesh, "?listperms", user="ann", wait=5)
            assert len(await in_thread(served.control.chat, mesh, "?relogin", user="ann", wait=5, answers=2)) == 2
            parent.failures["Refresh"] = RaveError(Code.STORE, "the database does not answer")
            assert await in_thread(served.control.chat, mesh, "?refresh", user="ann", wait=5)
        bus_daemon.stop()
        monkeypatch.delenv("NOTIFY_SOCKET")  # the daemon would use it too
        bus_daemon.start()
        async with connected(bus_daemon.address) as (bus,):
            owned: list[str] = []
            await bus.match(name_changes(names.worker_name(mesh)), lambda signal: owned.append(signal.body[2]))
            await until(lambda: owned)
        assert await in_thread(served.control.chat, mesh, "?ping", wait=5)
        bot.send_signal(signal.SIGTERM)
        _, errors = await bot.communicate()
        assert bot.returncode == ExitStatus.STOPPED, errors.decode()
        assert (await in_thread(served.control.mesh, mesh))["ended"][-1]["code"] == 1000
        assert served.session.auth_token not in errors.decode()
    assert manager.said[:4] == ["FDSTORE=1", "FDNAME=plugins", "FDPOLL=0", "READY=1"]
    lines = diary.read_text().splitlines()
    ready = lines.index("notify")
    late = [line for line in lines[ready:] if line.startswith("import ")]
    assert not late, "\n".join(late)
    loaded = {line.removeprefix("module ") for line in lines if line.startswith("module ")}
    modules = {name.partition(".")[0] for name in loaded}
    assert {"ravesvc.mesh.parent_client", "ravesvc.commands"} <= loaded
    dear = {
        "yaml",
        "pymongo",
        "bson",
        "sqlite3",
        "pystemd",
        "gi",
        "aiohttp",
        "argparse",
        "urllib3",
        "requests",
        "python_socks",
        "xml",
        "zipfile",
        "lzma",
        "difflib",
    }
    assert modules & dear == set()
    unused = {
        "concurrent.futures.thread",
        "ravesvc.bus.turns",
        "importlib.metadata",
        "urllib.request",
        "dbus_next.message_bus",
        "email.header",
        "email.quoprimime",
        "textwrap",
        # Protocols alone.
        "ravesvc.bot.http",
        "ravesvc.room.listener",
    }
    assert not unused & loaded
    assert not [
        name
        for name in loaded
        if name.startswith(
            ("ravesvc.store", "ravesvc.blocklist", "ravesvc.core", "ravesvc.orchestrator", "ravesvc.config.options")
        )
    ]


async def test_without_a_session_of_the_start_the_parent_is_asked(
    served: Served,
    bus_address: str,
    manager: FakeManager,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    (files / "session").unlink()
    (mesh,) = served.control.create()
    served.control.invite(mesh)

    async with parent_on(bus_address, FakeParent(served.session)), started("-m", "ravesvc.mesh", mesh) as bot:
        await in_thread(served.control.wait, connected=[mesh], timeout=10)
        bot.send_signal(signal.SIGTERM)
        await bot.communicate()
        assert bot.returncode == ExitStatus.STOPPED
    async with started("-m", "ravesvc.mesh", mesh) as bot:
        _, errors = await bot.communicate()
        assert bot.returncode == ExitStatus.LOGIN_NEEDED
        assert "ravectl login" in errors.decode()
        assert f"[{mesh}] INFO Ended: login needed" in errors.decode()


async def test_a_kick_is_the_exit_status_of_the_process(
    served: Served,
    bus_address: str,
    manager: FakeManager,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    (mesh,) = served.control.create()
    served.control.invite(mesh)

    async with started("-m", "ravesvc.mesh", mesh) as bot:
        await in_thread(served.control.wait, connected=[mesh], timeout=10)
        await manager.hears("STATUS=Connected to localhost")
        await in_thread(served.control.kick, mesh)
        _, errors = await bot.communicate()
        assert bot.returncode == ExitStatus.KICKED
        assert f"[{mesh}] INFO Ended: kicked" in errors.decode()


# What can't work.


def call_main(monkeypatch: pytest.MonkeyPatch, *arguments: str, files: Path | None = None) -> int:
    monkeypatch.setattr(sys, "argv", ["rave-mesh", *arguments])
    monkeypatch.setattr(program.log, "set_up", lambda level, identifier, mesh, limit: None)
    # There is no way back from it, and the process is that of the tests.
    monkeypatch.setattr(program.confinement, "confine", lambda machine, ports: [])
    given = [name for name in ("settings", "session") if files and (files / name).exists()]
    first = hand_over(monkeypatch, given, [files / name for name in given] if files else [])
    status = program.main()
    for number in range(first, first + len(given)):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
    return status


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["x"], ["A" * 36]])
def test_without_a_mesh_it_does_not_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, arguments: list[str]
) -> None:
    assert call_main(monkeypatch, *arguments) == ExitStatus.CONFIG
    assert "is not a mesh id" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("session", b"\xff", "the session file that the unit hands over is not UTF-8 text"),
        ("settings", b"{", "the settings file is not valid JSON"),
        ("session", b"{}", "device_id"),
        ("session", b"\n", "the session file"),
    ],
)
def test_without_proper_files_it_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    files: Path,
    name: str,
    content: bytes,
    text: str,
) -> None:
    (files / name).write_bytes(content)
    assert call_main(monkeypatch, new_mesh(), files=files) == ExitStatus.CONFIG
    assert text in caplog.text
    assert "Traceback" not in caplog.text


def test_without_settings_it_says_what_may_be_the_matter(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, files: Path
) -> None:
    (files / "settings").unlink()
    for given in (files, None):
        caplog.clear()
        assert call_main(monkeypatch, new_mesh(), files=given) == ExitStatus.NO_SETTINGS
        assert "No settings were handed over: /run/rave/settings.json is missing" in caplog.text
        assert "a drop-in has reset OpenFile=" in caplog.text
        assert "Traceback" not in caplog.text


def test_in_our_own_process_it_lives_and_ends(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    served: Served,
    files: Path,
    bus_address: str,
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    for change in ("freeze", "enable"):
        monkeypatch.setattr(program.gc, change, lambda: None)
    settings = settings_for(served, 3).to_json().replace('"debug": false', '"debug": true')
    (files / "settings").write_text(settings)
    with caplog.at_level(program.logging.INFO):  # which is put back at the end
        assert call_main(monkeypatch, new_mesh(), files=files) == ExitStatus.GONE
        assert program.logging.getLogger().level == program.logging.DEBUG
    assert "Ended: gone" in caplog.text


def test_a_callback_of_a_plugin_that_ends_the_process_is_a_crash(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, served: Served, files: Path
) -> None:
    """With a status of the plugin's own the service would take the bot for kicked, say."""

    async def run(*_: object) -> ExitStatus:
        sys.exit(ExitStatus.KICKED)

    monkeypatch.setattr(program, "_run", run)
    (files / "settings").write_text(settings_for(served, 3).to_json())
    assert call_main(monkeypatch, new_mesh(), files=files) == ExitStatus.CRASHED
    assert "A plugin has ended the process" in caplog.text


@pytest.mark.process
def test_headers_of_any_octets_load_nothing() -> None:
    octets = bytes(range(0x80, 0x100)) + b" =?utf-8?q?a?="
    received = b"Name: " + octets + b"\r\n" + octets + b": value\r\n\r\n"
    program = (
        "import io, sys, ravesvc.mesh.__main__, http.client\n"
        f"headers = http.client.parse_headers(io.BytesIO({received!r}))\n"
        "print(ascii([headers.get('Name'), *headers.items()]))\n"
        "print(*sys.modules)"
    )
    shown, loaded = subprocess.check_output([sys.executable, "-P", "-c", program], text=True).splitlines()
    assert "=?utf-8?q?a?=" in shown
    assert "http.client" in loaded.split()
    assert not {"email.base64mime", "email.header", "email.quoprimime"} & set(loaded.split())


def test_the_unit_starts_this_program() -> None:
    unit = (Path(__file__).parents[3] / "units/rave-mesh@.service").read_text()
    assert "-m ravesvc.mesh %i" in unit
