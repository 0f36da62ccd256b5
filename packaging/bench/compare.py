"""A bot of this tree beside a bot of another revision: on two throw-away Debian 13, by turns, with the simulator.

Printed are, for both, the median of what a start costs, the memory of a connected bot, and what a ?ping costs. Exits
with 1 if the bot of this tree is heavier by more than 1 MB, or needs 1.2 times the time of the other or more for an
answer or a start.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median

# Puts the test bed on the path.
from starts import BYTES_PER_BOT, CHECKOUT, TIMEOUT, Start, begin, start, touch_memory  # isort: skip

from testbed.build import build, export
from testbed.host import BedError
from testbed.machine import CommandFailed, Machine, installed

from ravesvc import names
from ravesvc.errors import RaveError
from ravesvc.simulator.client import Control

SCRATCH = CHECKOUT / "build" / "bench"
# As many starts a side: with ten, noise alone was seen to make 5 %.
BOTS = 40
# Users who ping in turn: each may run so many commands in a minute, and no more.
USERS = [f"user-{number}" for number in range(20)]
PINGS = 3 * len(USERS)
# Seconds between two: a bot says so much and no more.
PACE = 1.1
MAX_GROWTH_KB = 1024
MAX_RATIO = 1.2


@dataclass(slots=True)
class Side:
    """One of the two machines, and what was measured on it.

    Attributes:
        answers: seconds from a ?ping to its answer.
        work: processor seconds that the bot has used for one.
        memory: PSS of each bot, in kB.
    """

    name: str
    machine: Machine
    control: Control
    meshes: list[str]
    starts: list[Start] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)

    def start(self, number: int) -> None:
        """Start one more bot."""
        self.starts.append(start(self.machine, self.control, self.meshes[number]))

    def weigh(self) -> None:
        """Weigh all bots."""
        for mesh in self.meshes:
            rollup = self._proc(self._pid(mesh), "smaps_rollup")
            self.memory.append(next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")))

    def ping(self, user: str) -> None:
        """Have a user say ?ping to the first bot."""
        pid = self._pid(self.meshes[0])
        before, begun = self._work(pid), time.monotonic()
        answers = self.control.chat(self.meshes[0], "?ping", user=user, wait=TIMEOUT)
        self.answers.append(time.monotonic() - begun)
        if not answers:
            raise BedError(f"the bot of {self.name} has not answered")
        self.work.append(self._work(pid) - before)

    def _pid(self, mesh: str) -> str:
        show = ["systemctl", "show", "--value", "--property=MainPID", names.mesh_unit(mesh)]
        return self.machine.run(show).stdout.strip()

    def _work(self, pid: str) -> float:
        return int(self._proc(pid, "schedstat").split()[0]) / 1e9

    def _proc(self, pid: str, name: str) -> str:
        return self.machine.run(["cat", f"/proc/{pid}/{name}"]).stdout


def measure(sides: list[Side]) -> None:
    """Do everything on both, by turns: what disturbs this machine disturbs both."""
    touch_memory(len(sides) * BOTS * BYTES_PER_BOT)
    for number in range(BOTS):
        for side in sides if number % 2 else reversed(sides):
            side.start(number)
    for side in sides:
        side.weigh()
    for number in range(-len(USERS), PINGS):
        time.sleep(PACE)
        for side in sides:
            side.ping(USERS[number % len(USERS)])
            if number < 0:
                # The user has just come in, which is work of another kind.
                side.answers.clear()
                side.work.clear()


def report(old: Side, new: Side) -> bool:
    """Print both, and how they compare; tells whether the new one is light and quick enough."""
    print(f"{'median of':36}{old.name:>12}{new.name:>12}{'ratio':>8}")
    memory = row("memory, kB PSS", old.memory, new.memory)
    ratios = [
        row("start, seconds", *([each.seconds for each in side.starts] for side in (old, new))),
        row("start, CPU seconds of the machine", *([each.cpu for each in side.starts] for side in (old, new))),
        row("?ping, milliseconds", *([1000 * each for each in side.answers] for side in (old, new))),
        row("?ping, CPU milliseconds of the bot", *([1000 * each for each in side.work] for side in (old, new))),
    ]
    return (memory - 1) * median(old.memory) <= MAX_GROWTH_KB and max(ratios) < MAX_RATIO


def row(name: str, before: Sequence[float], after: Sequence[float]) -> float:
    """Print two medians, and return their ratio."""
    one, other = median(before), median(after)
    print(f"{name:36}{one:12.4g}{other:12.4g}{other / one:8.2f}")
    return other / one


def main() -> int:
    """Run the comparison; the exit status is 0 if all is well, 1 if not, 2 if it could not be measured."""
    parser = argparse.ArgumentParser(description="Compare a bot of this tree with one of another revision.")
    parser.add_argument("revision", metavar="REVISION", help="a revision that git knows, such as main")
    revision = parser.parse_args().revision
    try:
        with ExitStack() as stack:
            sides = []
            export(CHECKOUT, revision, SCRATCH / "tree")
            for name, tree in ((revision, SCRATCH / "tree"), ("this tree", CHECKOUT)):
                machine = stack.enter_context(installed(build(tree), SCRATCH / "logs" / name))
                sides.append(Side(name, machine, *begin(machine, BOTS)))
            measure(sides)
            return 0 if report(*sides) else 1
    except (BedError, CommandFailed, RaveError) as e:
        print(f"{e}\nlook into {SCRATCH / 'logs'}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
