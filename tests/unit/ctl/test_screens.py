"""ravectl status on real terminals.

`GOLDEN=write pytest tests/unit/ctl/test_screens.py` writes what is seen anew; look at it before you commit it.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ravesvc.bus import Variant
from ravesvc.core.status_line import Situation, summary
from ravesvc.ctl.exit_status import Exit
from tests.unit.ctl.terminal import Terminal
from tests.unit.fake_service import FakeService

pytestmark = [pytest.mark.process, pytest.mark.slow]

SCREENS = Path(__file__).with_name("screens")
SIZES = [(80, 24), (100, 30), (160, 50)]
COUNTS = [1, 20, 120]
MINUTE_US = 60_000_000

# What strangers call their rooms.
TITLES = [
    "Friday film night with popcorn",
    "",
    "映画の夜 — 『千と千尋の神隠し』 を日本語で見る会",
    "🍿🎬 Movie night 🎬🍿",
    "Noe\u0308l en famille, de\u0301ja\u0300 vu",
    "שלום, ערב סרטים",
    "A title that goes on and on, as if its author had never had to read the title of another: part 1 of 9",
    "👩‍👩‍👧‍👦 family ❤️ room",
    "\u202eevil\u202c \x1b[31mred\x1b[0m",
    "ليلة الأفلام",
    "ภาพยนตร์ไทย",
    "x",
]
REFUSED = "can't connect to wss-17.example.test:443: Connection refused"
LONG = (
    "the room refuses the bot with HTTP status 503 and says: the service is overloaded for the time being, try again"
    " later or ask the operator of the server, whose telephone number is not known; 部屋がいっぱいです"
)
# Each state with what is said of it.
STATES = [
    ("connected", ""),
    ("connected", ""),
    ("disconnected", REFUSED),
    ("connected", ""),
    ("starting", ""),
    ("blocked", "the bot was kicked"),
    ("connected", ""),
    ("unhealthy", "its process does not answer"),
    ("restarting", LONG),
    ("connected", ""),
    ("held", "it was stopped by an operator"),
    ("failed", "exit status 1"),
    ("stopping", "it was stopped by an operator"),
    ("connected", ""),
    ("stopped", "max_processes (12) is reached"),
    ("connected", ""),
    ("connected", ""),
]
AGES_MIN = [3, 150, 2 * 24 * 60 + 5]
# With memory that no control group on this machine counts.
PROGRAM = """
import json, os, sys
from pathlib import Path
from ravesvc.ctl.operations import memory, watch_run
counted = json.loads(Path(sys.argv.pop(1)).read_text())
memory.used = lambda: counted if "BUG" not in os.environ or not bugs.pop() else 1 / 0
bugs = [True, False]
# All is drawn because of what happens, not because of the time.
watch_run._REDRAW_INTERVAL_S = 3600.0
from ravesvc.ctl.main import main
sys.exit(main())
"""


def meshes(count: int) -> list[list[Any]]:
    """So many rooms, as DescribeMeshes lists them."""
    now_us = time.time_ns() // 1000
    found = []
    for number in range(count):
        state, reason = STATES[number % len(STATES)]
        title = TITLES[number % len(TITLES)]
        title += f" {number}" if title and number >= len(TITLES) else ""
        # Half a minute more than what is shown, so that it does not change meanwhile.
        since = now_us - AGES_MIN[number % 3] * MINUTE_US - MINUTE_US // 2
        mesh = f"{(number * 2654435761) % 2**32:08x}-0a1b-4c2d-8e3f-4a5b6c7d8e9f"
        found.append([mesh, title, state, reason, since, number * 7 % 250, number % 4 * number % 30, number % 9 == 8])
    return found


@pytest.fixture
def service(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    monkeypatch.delenv("NO_COLOR", raising=False)
    fake = FakeService(bus_address)
    yield fake
    fake.stop()


def fill(service: FakeService, count: int) -> None:
    found = meshes(count)
    states = [mesh[2] for mesh in found]
    service.manager.described = found
    service.manager.status |= {
        "Version": Variant("s", "0.2.0"),
        "Summary": Variant("s", summary(Situation(states=states))),
        "Admins": Variant("u", 2),
        "Permissions": Variant("u", 1),
        "States": Variant("a{su}", {state: states.count(state) for state in set(states)}),
        "LastDiscoveryTimestamp": Variant("t", time.time_ns() // 1000 - 2 * MINUTE_US - MINUTE_US // 2),
    }


class Terminals:
    """Opens terminals with ravectl on them, and closes them in the end."""

    def __init__(self, service: FakeService, directory: Path) -> None:
        self._service = service
        self._program, self._memory = directory / "program.py", directory / "memory.json"
        self._program.write_text(PROGRAM)
        self._open: list[Terminal] = []

    def command(self, *arguments: str) -> list[str]:
        """ravectl as it is started."""
        used = {mesh[0]: (17 + at % 60) << 20 for at, mesh in enumerate(self._service.manager.described)}
        if len(used) > 3:
            used[list(used)[3]] = 1_610_612_736
            del used[list(used)[2]]
        self._memory.write_text(json.dumps(used))
        return [sys.executable, str(self._program), str(self._memory), *arguments]

    def open(self, command: Sequence[str], columns: int, rows: int, **environment: str) -> Terminal:
        terminal = Terminal(command, columns, rows, **environment)
        self._open.append(terminal)
        return terminal

    def watch(self, columns: int, rows: int, **environment: str) -> Terminal:
        """A terminal on which all is drawn."""
        terminal = self.open(self.command("status", "--watch"), columns, rows, **environment)
        terminal.until_shown("q quits")
        return terminal

    def close(self) -> None:
        for terminal in self._open:
            terminal.close()


@pytest.fixture
def terminals(service: FakeService, tmp_path: Path) -> Iterator[Terminals]:
    opened = Terminals(service, tmp_path)
    yield opened
    opened.close()


def compare(name: str, text: str) -> None:
    """Compare a screen with the one in the tree, or write that."""
    file = SCREENS / f"{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("columns", [columns for columns, _ in SIZES])
def test_status(service: FakeService, terminals: Terminals, columns: int, count: int) -> None:
    fill(service, count)
    # With room for all, as a terminal has that can be scrolled back.
    terminal = terminals.open(terminals.command("status"), columns, 200)
    assert terminal.wait() == 0
    compare(f"status-{columns}-{count}", terminal.screen.text)
    assert not terminal.screen.modes
    assert terminal.screen.find("connected", below="MESH").fg == "green"


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("columns", "rows"), SIZES)
def test_watch(service: FakeService, terminals: Terminals, columns: int, rows: int, count: int) -> None:
    fill(service, count)
    terminal = terminals.watch(columns, rows)
    compare(f"watch-{columns}x{rows}-{count}", terminal.screen.text)
    assert terminal.screen.scrolled == 0
    assert terminal.screen.alternate
    terminal.type("q")
    assert terminal.wait() == 0
    assert terminal.screen.text == "\n"
    assert restored(terminal)


@pytest.mark.parametrize(("columns", "rows"), [(40, 12), (60, 6), (20, 3), (80, 1)])
def test_on_a_small_terminal_nothing_scrolls(
    service: FakeService, terminals: Terminals, columns: int, rows: int
) -> None:
    fill(service, 20)
    terminal = terminals.open(terminals.command("status", "--watch"), columns, rows)
    terminal.until_shown("q quits")
    compare(f"watch-{columns}x{rows}", terminal.screen.text)
    assert terminal.screen.scrolled == 0


def test_a_long_obstacle_leaves_room_for_the_table(service: FakeService, terminals: Terminals) -> None:
    fill(service, 20)
    why = "identity.client_key in rave.yaml is missing: it is the key of the client, and no part of this program. "
    service.manager.status["Summary"] = Variant("s", f"No mesh is started: {why * 4}")
    service.manager.status["CommandErrors"] = Variant("as", [f"/etc/rave/commands.d/{name}: {why}" for name in "abc"])
    compare("watch-80x24-obstacle", terminals.watch(80, 24).screen.text)


def test_keys_scroll(service: FakeService, terminals: Terminals) -> None:
    fill(service, 120)
    terminal = terminals.watch(160, 20)
    for keys, shown in [
        ("\x1b[B", "rows 2-15 of 120"),
        ("\x1bOB\x1b[B", "rows 4-17 of 120"),
        ("\x1b[A", "rows 3-16 of 120"),
        ("\x1b[6~", "rows 17-30 of 120"),
        ("\x1b[F", "rows 107-120 of 120"),
        ("\x1b[6~\x1b[B\x1b[A", "rows 106-119 of 120"),
        ("\x1b[5~", "rows 92-105 of 120"),
        ("\x1b[1~\x1b[A", "rows 1-14 of 120"),
        ("\x1b", "rows 1-14 of 120"),
        ("[4~", "rows 107-120 of 120"),
        ("xyz\x1b[15~\x1b[H", "rows 1-14 of 120"),
    ]:
        terminal.type(keys)
        terminal.until_shown(shown)
    assert terminal.screen.scrolled == 0


def test_another_size_is_another_drawing(service: FakeService, terminals: Terminals) -> None:
    fill(service, 120)
    terminal = terminals.watch(80, 24)
    for columns, rows, shown in [(160, 50, "of 120"), (100, 30, "rows 1-15 of 120"), (160, 50, "RST  REASON")]:
        terminal.resize(columns, rows)
        terminal.until_shown(shown)
    terminal.until(lambda: terminal.screen.text == (SCREENS / "watch-160x50-120.txt").read_text())


def test_a_change_is_drawn_and_columns_stay(service: FakeService, terminals: Terminals) -> None:
    fill(service, 20)
    terminal = terminals.watch(160, 50)
    titles = terminal.screen.row("MESH")
    manager = service.manager

    def change() -> None:
        manager.described = [[mesh[0], "short", *mesh[2:]] for mesh in manager.described]
        manager.set(Status="another")

    service._loop.call_soon_threadsafe(change)
    terminal.until_shown("  short  ")
    assert "film" not in terminal.screen.text
    assert terminal.screen.row("MESH") == titles


def restored(terminal: Terminal) -> bool:
    """Whether the terminal is as it was: the screen, the cursor, line breaks, and what stty(1) says."""
    modes = dict.fromkeys(())
    for mode in terminal.screen.modes:
        modes[mode[1:]] = mode[0]
    assert modes == {"1049": "-", "25": "+", "7": "+"}
    return not terminal.screen.alternate and terminal.settings() == terminal.before


@pytest.mark.parametrize("how", ["Ctrl-C", signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_leaves_the_terminal_as_it_was(
    service: FakeService, terminals: Terminals, how: str | signal.Signals
) -> None:
    fill(service, 20)
    terminal = terminals.watch(80, 24)
    if isinstance(how, str):
        terminal.type("\x03")
    else:
        terminal.process.send_signal(how)
    assert terminal.wait() == Exit.INTERRUPTED
    assert restored(terminal)
    assert terminal.screen.text == "ravectl: interrupted\n"


def test_the_end_of_the_service_leaves_the_terminal_as_it_was(service: FakeService, terminals: Terminals) -> None:
    fill(service, 20)
    terminal = terminals.watch(80, 24)
    service._loop.call_soon_threadsafe(service._stop.set)
    assert terminal.wait() == Exit.NOT_RUNNING
    assert restored(terminal)
    assert terminal.screen.text.startswith("ravectl: rave-orchestrator has gone away meanwhile\n")


def test_a_bug_leaves_the_terminal_as_it_was(service: FakeService, terminals: Terminals) -> None:
    fill(service, 20)
    terminal = terminals.watch(80, 24, BUG="1")
    service._loop.call_soon_threadsafe(partial(service.manager.set, Status="another"))
    assert terminal.wait() == 1
    assert restored(terminal)
    assert "ZeroDivisionError" in terminal.screen.text


def test_ctrl_z_gives_the_shell_its_terminal_back(service: FakeService, terminals: Terminals) -> None:
    fill(service, 20)
    shell = terminals.open(["bash", "--norc", "--noprofile", "-i"], 100, 30, PS1="ready$ ")

    def until_ready() -> None:
        shell.until(lambda: not shell.screen.alternate and shell.screen.text.endswith("ready$\n"))

    until_ready()
    shell.type(shlex.join(terminals.command("status", "--watch")) + "\n")
    shell.until_shown("q quits")
    shell.type("\x1a")
    until_ready()
    assert "Stopped" in shell.screen.text
    shell.type("fg\n")
    shell.until_shown("q quits")
    assert shell.screen.alternate
    shell.type("\x1b[B")
    shell.until_shown("rows 2-")
    shell.type("q")
    until_ready()
    shell.type("echo status $?\n")
    shell.until_shown("status 0")


def test_without_a_keyboard_ctrl_c_quits(service: FakeService, terminals: Terminals) -> None:
    fill(service, 20)
    command = shlex.join(terminals.command("status", "--watch"))
    terminal = terminals.open(["sh", "-c", f"exec {command} </dev/null"], 80, 24)
    terminal.until_shown("Ctrl-C quits")
    terminal.type("\x03")
    assert terminal.wait() == Exit.INTERRUPTED


def test_a_terminal_that_knows_no_sequences_is_refused(service: FakeService, terminals: Terminals) -> None:
    terminal = terminals.open(terminals.command("status", "--watch"), 80, 24, TERM="dumb")
    assert terminal.wait() == Exit.FAILED
    assert "--watch is for a terminal" in terminal.screen.text
