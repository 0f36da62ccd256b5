"""The main job, shown on a throw-away Debian 13: what a person would type, and what comes back.

Every step checks what it shows; the exit status is 0 only if all of it was seen.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "packaging" / "testbed"))

from testbed.build import build  # noqa: E402
from testbed.host import BedError  # noqa: E402
from testbed.machine import CommandFailed, Machine  # noqa: E402
from testbed.root import run_root  # noqa: E402

LOGS = CHECKOUT / "build" / "logs" / "demo"


class NotSeenError(Exception):
    """The demo did not show what it promises."""


class Terminal:
    """Types commands into the machine, prints them and their output."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def title(self, text: str) -> None:
        """Begin a chapter."""
        print(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)

    def type(self, command: str) -> str:
        """Run a shell command as root; returns what it printed."""
        print(f"# {command}", flush=True)
        said = self.quietly(command)
        print("".join(f"  {line}\n" for line in said.splitlines()), end="", flush=True)
        return said

    def quietly(self, command: str) -> str:
        """Run a shell command that is not part of the show."""
        done = self._machine.run(["sh", "-ec", f"({command}) 2>&1"], timeout=120, check=False)
        if done.returncode:
            raise NotSeenError(f"`{command}` failed with status {done.returncode}:\n{done.stdout}")
        return done.stdout

    def until(self, command: str, right: Callable[[str], bool], timeout: float = 30.0) -> None:
        """Repeat a command, silently, until its output is right."""
        deadline = time.monotonic() + timeout
        while not right(said := self._machine.run(["sh", "-c", command], check=False).stdout):
            if time.monotonic() > deadline:
                raise NotSeenError(f"`{command}` still says:\n{said}")
            time.sleep(0.1)


def expect(seen: object, what: str) -> None:
    """Go on only if something was seen."""
    if not seen:
        raise NotSeenError(what)


def show(terminal: Terminal) -> None:
    """The whole show."""
    states = "busctl call org.ravesvc.Rave1 /org/ravesvc/Rave1 org.ravesvc.Rave1.Manager ListMeshes"

    terminal.title("A Rave on loopback, and a configuration for it")
    terminal.type("systemctl start rave-simulator")
    terminal.type("rave-simulator config --discovery-interval 5s > /etc/rave/rave.yaml")

    terminal.title("Start the service, and log its account in: the simulator follows the link in the mail")
    terminal.type("systemctl start rave-orchestrator")
    needed = terminal.type("systemctl show --value --property=StatusText rave-orchestrator")
    expect("login is needed" in needed, "the service was to ask for a login")
    terminal.type("rave-simulator option confirm 2")
    expect("Logged in" in terminal.type("ravectl login bot@example.test"), "the login was to succeed")

    terminal.title("Users invite the bot into three meshes")
    meshes = terminal.type("rave-simulator mesh create --count 3 --title 'Movie night'").split()
    expect(len(meshes) == 3, "three meshes were to be made")
    terminal.type(f"rave-simulator invite {' '.join(meshes)}")
    terminal.until(states, lambda said: said.count('"connected"') == 3)
    units = terminal.type("systemctl list-units --plain --legend=no 'rave-mesh@*'")
    expect(units.count("running") == 3, "three units were to run")

    terminal.title("It answers in each of them")
    for mesh in meshes:
        expect("Pong" in terminal.type(f"rave-simulator chat {mesh} '?ping' --wait 10"), "no Pong")

    terminal.title("What an operator sees")
    tree = terminal.type("busctl tree org.ravesvc.Rave1")
    expect(tree.count("/mesh/") == 3, "the tree was to show three meshes")
    listing = terminal.type(states)
    expect(all(mesh in listing for mesh in meshes), "the listing was to show three meshes")
    words = terminal.type("systemctl show --property=StatusText 'rave-mesh@*'")
    expect(words.count("Connected to localhost") == 3, "the status of each bot was to say where it is")
    terminal.type("systemctl status --no-pager --lines=3 rave-orchestrator")

    first, second, third = meshes
    terminal.title("An admin keeps ?info to admins: that holds in every mesh at once")
    terminal.type("ravectl admin add 100000001")
    terminal.type(f"rave-simulator chat {first} '?setperm info admin' --user ann --wait 10")
    refused = terminal.type(f"rave-simulator chat {third} '?info' --user bob --wait 10")
    expect("nly admins may" in refused, "a stranger was to be refused in another mesh")

    terminal.title("One bot is killed: systemd brings it back, the others notice nothing")
    others = f"systemctl show --value -p MainPID rave-mesh@{second} rave-mesh@{third}"
    before = terminal.quietly(others)
    dead = terminal.quietly(f"systemctl show --value -p MainPID rave-mesh@{first}").strip()
    terminal.type(f"systemctl kill --signal=KILL rave-mesh@{first}")
    terminal.until(
        f"systemctl show --value -p MainPID rave-mesh@{first}", lambda said: said.strip() not in ("0", dead)
    )
    terminal.until(states, lambda said: said.count('"connected"') == 3)
    expect("Pong" in terminal.type(f"rave-simulator chat {first} '?ping' --wait 10"), "no Pong after the kill")
    expect(terminal.quietly(others) == before, "the other bots were to keep their processes")
    terminal.type(f"systemctl show -p NRestarts,ActiveState rave-mesh@{first}")

    terminal.title("One bot is kicked: it leaves and stays out, invited or not")
    terminal.type(f"rave-simulator kick {second}")
    terminal.until(states, lambda said: '"blocked"' in said and said.count('"connected"') == 2)
    terminal.type(f"rave-simulator invite {second}")
    terminal.type("busctl call org.ravesvc.Rave1 /org/ravesvc/Rave1 org.ravesvc.Rave1.Manager Discover")
    path = terminal.quietly(
        f"busctl --json=short call org.ravesvc.Rave1 /org/ravesvc/Rave1 org.ravesvc.Rave1.Manager GetMesh s {second}"
        " | grep -o '/org[^\"]*'"
    ).strip()
    reason = terminal.type(f"busctl get-property org.ravesvc.Rave1 {path} org.ravesvc.Rave1.Mesh Reason")
    expect("kicked" in reason, "the reason was to be the kick")
    # Until the service has saved the kick, systemd shows how the bot has ended.
    terminal.until(f"systemctl show --value -p ActiveState rave-mesh@{second}", lambda said: "inactive" in said)
    units = terminal.type("systemctl list-units --plain --legend=no 'rave-mesh@*'")
    expect(second not in units and units.count("running") == 2, "the kicked bot was to stay out")

    terminal.title("Stop: every bot says goodbye")
    terminal.type("systemctl stop rave-orchestrator rave-meshes.target")
    units = terminal.type("systemctl list-units --plain --legend=no 'rave-mesh@*'")
    expect(not units.strip(), "no bot was to be left")
    terminal.type("journalctl --no-pager --output=cat --lines=2 _SYSTEMD_UNIT=rave-mesh@" + first + ".service")
    codes = terminal.quietly(
        'rave-simulator state | python3 -c \'import json, sys; meshes = json.load(sys.stdin)["meshes"];'
        f' print(*(meshes[id]["ended"][-1]["code"] for id in sys.argv[1:]))\' {first} {third}'
    )
    expect(codes.split() == ["1000", "1000"], "both connections were to be closed with code 1000")
    # Fails if the simulator has found any fault with what the bot sent.
    terminal.type("rave-simulator violations")


def main() -> int:
    """Build, boot, show."""
    try:
        packages = build(CHECKOUT)
        with Machine(run_root()) as machine:
            terminal = Terminal(machine)
            terminal.title(f"A fresh Debian 13; apt install {' '.join(path.name for path in packages)}")
            machine.install(packages)
            try:
                show(terminal)
            except (NotSeenError, subprocess.SubprocessError):
                machine.save_logs(LOGS)
                raise
    except (BedError, CommandFailed, NotSeenError) as e:
        print(f"\nThe demo failed: {e}\nLogs are in {LOGS.relative_to(CHECKOUT)}", file=sys.stderr)
        return 1
    print("\nAll of it was seen.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
