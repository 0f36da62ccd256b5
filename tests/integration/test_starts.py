"""What a bot is handed at its start, on machines as they are."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest
from testbed.machine import CommandFailed

from ravesvc import names
from tests.integration.conftest import Site, eventually
from tests.integration.test_rights import NO_ROUND, STRANGER, inside_a_bot

# As images for LXD and Incus have it, with some more lines of the same kind.
_IMAGE = """
ProcSubset=all
ProtectProc=default
ProtectControlGroups=no
ProtectKernelTunables=no
NoNewPrivileges=no
PrivateNetwork=no
LoadCredential=
LoadCredentialEncrypted=
ImportCredential=
SetCredential=
"""


@contextlib.contextmanager
def for_all_services(site: Site, lines: str) -> Iterator[None]:
    """A drop-in for every service of the machine, as distrobuilder puts it into its images."""
    directory = "/run/systemd/system/service.d"
    file = f"{directory}/zzz-image.conf"
    site.machine.run(["install", "-D", "-m", "644", "/dev/stdin", file], input=f"[Service]\n{lines}")
    site.sh("systemctl daemon-reload")
    try:
        yield
    finally:
        site.sh(f"rm -r {directory}; systemctl daemon-reload")


def starts(site: Site, mesh: str) -> int:
    """How many times systemd has begun to start a mesh's unit since the machine is up."""
    return site.machine.journal("-u", names.mesh_unit(mesh), "-o", "cat").count("Starting rave-mesh@")


def _wait_explained(site: Site, mesh: str, words: str) -> None:
    eventually(lambda: words in site.sh(f"ravectl explain {mesh}", check=False), f"explain says {words!r}")


def _said(site: Site, mesh: str) -> list[str]:
    return site.machine.journal("-t", f"rave-mesh@{mesh}", "-o", "cat").splitlines()


def test_bots_start_where_an_image_resets_lines_of_all_services(site: Site) -> None:
    with for_all_services(site, _IMAGE):
        meshes = site.run_fleet(2)
        assert [starts(site, mesh) for mesh in meshes] == [1, 1]
        assert site.answers(meshes[0])


def test_bots_that_are_not_handed_their_settings_say_so_and_wait(site: Site) -> None:
    meshes = site.control.create(2)
    with for_all_services(site, "OpenFile=\n"):
        site.control.invite(meshes)
        site.sh("systemctl start rave-orchestrator")
        for mesh in meshes:
            _wait_explained(site, mesh, "a drop-in has reset OpenFile=")
        site.wait_rounds(4)
        assert [starts(site, mesh) for mesh in meshes] == [1, 1], "not once more in each round"
        log = "\n".join(_said(site, meshes[0]))
        assert "a drop-in has reset OpenFile=" in log
        assert "Traceback" not in log
    # Mended: an operator need not wait.
    site.sh(f"ravectl start {meshes[0]}")
    site.wait_state([meshes[0]], "connected")
    # Nor one who restarts the service.
    site.sh("systemctl restart rave-orchestrator")
    site.wait_state(meshes, "connected")


@pytest.mark.parametrize("file", ["settings", "session"])
def test_a_file_that_is_missing(site: Site, file: str) -> None:
    """Without a session a bot asks for it; without settings it says what it lacks."""
    (mesh,) = site.run_fleet(1)
    site.sh(f"mv /run/rave/{file}.json /run/rave/away; systemctl kill -s KILL {names.mesh_unit(mesh)}")
    if file == "session":
        site.wait_state([mesh], "connected")
    else:
        _wait_explained(site, mesh, "settings.json is missing")
        # systemd is not to try what can't work.
        assert site.unit(mesh, "NRestarts") in ("0", "1")
        site.sh("systemctl restart rave-orchestrator")
        site.wait_state([mesh], "connected")


def test_a_bot_starts_while_the_parent_is_away(site: Site) -> None:
    (mesh,) = site.run_fleet(1)
    before = site.control.connections()[mesh]
    site.sh("systemctl kill --signal=STOP rave-orchestrator")
    try:
        site.sh(f"systemctl kill -s KILL {names.mesh_unit(mesh)}")
        site.control.wait(reconnected={mesh: before}, timeout=20)
    finally:
        site.sh("systemctl kill --signal=CONT rave-orchestrator")
    site.wait_state([mesh], "connected")


# A bot's program that tries to change what all bots are handed, and to open it by itself.
_MEDDLER = """
import os, sys
from ravesvc.systemd.notify import notify

def refused(what, attempt):
    try:
        attempt()
    except OSError:
        return
    print(what, "is possible", flush=True)

print(os.environ["LISTEN_FDNAMES"], flush=True)
for number in (3, 4):
    print(bool(os.pread(number, 1, 0)), flush=True)
    refused("writing", lambda: os.pwrite(number, b"x", 0))
    refused("truncating", lambda: os.ftruncate(number, 0))
    for mode in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        refused("opening anew", lambda: os.open(f"/proc/self/fd/{number}", mode))
    refused("a change of mode", lambda: os.fchmod(number, 0o666))
for file in ("settings", "session"):
    refused("opening", lambda: os.open(f"/run/rave/{file}.json", os.O_RDONLY))
other = f"/proc/{sys.argv[1]}"
for directory in ("fd", "root"):
    refused("listing what is another bot's", lambda: os.listdir(f"{other}/{directory}"))
for file in ("environ", "mem"):
    refused("reading what is another bot's", lambda: os.open(f"{other}/{file}", os.O_RDONLY))
notify("READY=1")
print("tried it all", flush=True)
import time; time.sleep(60)
"""


def test_a_bot_can_not_change_what_all_bots_are_handed(site: Site) -> None:
    site.configure(NO_ROUND)
    (mesh,) = site.run_fleet(1)
    files = "/run/rave/settings.json /run/rave/session.json"
    before = site.sh(f"stat -c '%n %a %u %s %Y' {files}; sha256sum {files}")
    with inside_a_bot(site, _MEDDLER, site.pids([mesh])[mesh]):
        eventually(lambda: "tried it all" in _said(site, STRANGER), "it has tried")
    lines = _said(site, STRANGER)
    assert lines.count("True") == 2, "it is a reader of both"
    assert "settings:session" in lines
    assert not [line for line in lines if line.endswith("is possible")]
    assert site.sh(f"stat -c '%n %a %u %s %Y' {files}; sha256sum {files}") == before
    assert site.answers(mesh)


def test_a_running_bot_keeps_no_file_open_that_others_could_take(site: Site) -> None:
    mesh, _ = site.run_fleet(2)
    pid = site.pids([mesh])[mesh]
    assert "/run/rave" not in site.sh(f"ls -l /proc/{pid}/fd"), "it was closed"
    assert "LISTEN_" in site.sh(f"tr '\\0' '\\n' < /proc/{pid}/environ"), "systemd did hand it over"
    token = json.loads(site.sh("cat /run/rave/session.json"))["auth_token"]
    assert token not in site.sh(f"tr '\\0' '\\n' < /proc/{pid}/environ; tr '\\0' '\\n' < /proc/{pid}/cmdline")
    for user in ("nobody", "rave-simulator"):
        with pytest.raises(CommandFailed, match="Permission denied"):
            site.machine.run(["ls", f"/proc/{pid}/fd/"], user=user)
        with pytest.raises(CommandFailed, match="Permission denied"):
            site.machine.run(["cat", f"/proc/{pid}/mem"], user=user)
