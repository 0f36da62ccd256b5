"""What the n-th start of a bot costs, while all before it run: on a throw-away Debian 13, with the simulator.

Bots are started one after another, each when the one before is connected. Printed are means over blocks of ten: the
seconds until a bot is connected, and the processor time that the whole machine has used for it (systemd, the message
bus, service, bot and simulator). Exits with 1 if a start of the last block costs more than 1.3 times one of the
first.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "packaging" / "testbed")]

from testbed.build import build  # noqa: E402
from testbed.host import BedError  # noqa: E402
from testbed.machine import CommandFailed, Machine, installed  # noqa: E402

from ravesvc import names  # noqa: E402
from ravesvc.errors import RaveError  # noqa: E402
from ravesvc.simulator.client import Control  # noqa: E402

LOGS = CHECKOUT / "build" / "logs" / "bench-starts"
BLOCK = 10
MAX_RATIO = 1.3
# What the starts before have left to do is over by then, in seconds; and the longest that one may take.
QUIET, TIMEOUT = 0.5, 60.0
# The memory that one more bot takes, with what the kernel keeps for it: rather too much.
BYTES_PER_BOT = 45 << 20
# Starts whose figures are not used: the first of all loads what all share.
WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Start:
    """One start: seconds until the bot was connected, and processor seconds of the machine."""

    seconds: float
    cpu: float


def touch_memory(size: int) -> None:
    """Use so many bytes of memory once, at most half of what is free, and give them back.

    A virtual machine gets its memory from its host at the first use, and a page then costs 17 us instead of 2.5. With
    some 7000 pages of a start that is 0.1 s for those starts that make the memory in use grow, and for no others.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    mmap.mmap(-1, min(size, free // 2), flags=flags).close()


def measure(machine: Machine, bots: int) -> list[Start]:
    """Start so many bots, one after another."""
    touch_memory((bots + WARM_UP) * BYTES_PER_BOT)
    control, meshes = begin(machine, bots + WARM_UP)
    return [start(machine, control, mesh) for mesh in meshes][WARM_UP:]


def begin(machine: Machine, bots: int) -> tuple[Control, list[str]]:
    """Start the simulator and the service, with so many meshes, none of which has a bot yet."""
    control = Control(machine.path("/run/rave-simulator/control.sock"))
    sh(machine, "systemctl start rave-simulator")
    # No round of discovery falls into the measurement: it grows with the number of meshes, a start must not.
    config = "rave-simulator config --discovery-interval 1d; echo 'typing_delay: 0'; echo 'max_processes: 0'"
    sh(machine, f"{{ {config}; }} > /etc/rave/rave.yaml")
    sh(machine, "rave-simulator credentials | install -T -o rave -m 600 /dev/stdin /var/lib/rave/credentials.json")
    meshes = control.create(bots)
    control.invite(meshes)
    hold(machine, meshes)
    sh(machine, "systemctl start rave-orchestrator")
    wait_listed(machine)
    return control, meshes


def hold(machine: Machine, meshes: list[str]) -> None:
    """Keep all meshes from being started until that is ordered."""
    entry = {"reason": "held", "blockedAt": 1, "blockedUntil": None}
    document = {"blockedMeshes": {mesh: {"meshId": mesh, **entry} for mesh in meshes}}
    file = ["install", "-o", "rave", "-g", "rave", "-m", "600", "/dev/stdin", "/var/lib/rave/blocklist.json"]
    machine.run(file, input=json.dumps(document))


def wait_listed(machine: Machine) -> None:
    """Wait until the service has read the list of meshes."""
    words = ["busctl", "get-property", names.BUS_NAME, names.MANAGER_PATH, names.MANAGER_INTERFACE]
    deadline = time.monotonic() + TIMEOUT
    while machine.run([*words, "LastDiscoveryTimestamp"]).stdout.strip() == "t 0":
        if time.monotonic() > deadline:
            raise BedError("the service has not read the list of meshes")
        time.sleep(0.2)


def start(machine: Machine, control: Control, mesh: str) -> Start:
    """Start one bot, and wait until it is connected and all is quiet again."""
    used, begun = cpu_seconds(machine), time.monotonic()
    call = ["busctl", "call", names.BUS_NAME, names.MANAGER_PATH, names.MANAGER_INTERFACE, "StartMesh", "s", mesh]
    machine.run(call, timeout=TIMEOUT)
    control.wait(connected=[mesh], timeout=TIMEOUT)
    seconds = time.monotonic() - begun
    # Not waiting for a condition: what comes after a start has none, and is to be counted.
    time.sleep(QUIET)
    return Start(seconds, cpu_seconds(machine) - used)


def cpu_seconds(machine: Machine) -> float:
    """The processor time of everything in the machine since its boot."""
    lines = machine.path("/sys/fs/cgroup/cpu.stat").read_text().splitlines()
    return int(dict(line.split() for line in lines)["usage_usec"]) / 1e6


def sh(machine: Machine, script: str) -> None:
    """Run a shell script in the machine."""
    machine.run(["sh", "-ec", script], timeout=TIMEOUT)


def report(starts: list[Start]) -> bool:
    """Print the means of the blocks; tells whether the last is cheap enough."""
    blocks = [starts[at : at + BLOCK] for at in range(0, len(starts), BLOCK)]
    print("bots      seconds  CPU seconds of one start")
    at = 0
    for block in blocks:
        first, at = at + 1, at + len(block)
        seconds, cpu = fmean(start.seconds for start in block), fmean(start.cpu for start in block)
        print(f"{first:3}-{at:<3}   {seconds:8.3f}  {cpu:11.3f}")
    first_cost, last_cost = (fmean(start.cpu for start in block) for block in (blocks[0], blocks[-1]))
    ratio = last_cost / first_cost
    print(f"last block : first block = {ratio:.2f} (at most {MAX_RATIO:g})")
    return ratio <= MAX_RATIO


def main() -> int:
    """Run the benchmark; the exit status is 0 if starts stay cheap, 1 if not, 2 if it could not be measured."""
    parser = argparse.ArgumentParser(description="Measure what the n-th start of a bot costs.")
    parser.add_argument("--bots", type=int, default=100, metavar="N", help="how many, in tens (default: 100)")
    bots = parser.parse_args().bots
    if bots < 2 * BLOCK or bots % BLOCK:
        parser.error(f"--bots must be a multiple of {BLOCK}, and at least {2 * BLOCK}")
    try:
        with installed(build(CHECKOUT), LOGS) as machine:
            starts = measure(machine, bots)
    except (BedError, CommandFailed, RaveError) as e:
        print(f"{e}\nlook into {LOGS}", file=sys.stderr)
        return 2
    return 0 if report(starts) else 1


if __name__ == "__main__":
    sys.exit(main())
