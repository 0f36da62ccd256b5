"""The operator's plugins: dropped into a directory, in force in all meshes after `ravectl refresh`."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator

import pytest
from testbed.machine import CommandFailed

from ravesvc import names
from tests.integration.conftest import CHECKOUT, Figure, Site, eventually
from tests.integration.test_admins import says, user_id
from tests.integration.test_rights import NO_ROUND, STRANGER, inside_a_bot

DIRECTORY = names.COMMANDS_DIRECTORY
GREET = (CHECKOUT / "config" / "greet.py").read_text()


@pytest.fixture
def meshes(site: Site) -> Iterator[list[str]]:
    """Two meshes; afterwards there are no plugins."""
    yield site.run_fleet(2)
    site.sh(f"rm -rf {DIRECTORY}/*.py")


def drop(site: Site, name: str, text: str) -> None:
    """Put a file where plugins are, as root would."""
    site.machine.run(["install", "-m", "644", "/dev/stdin", f"{DIRECTORY}/{name}"], input=text)


def refresh(site: Site) -> None:
    site.sh("ravectl refresh")


def errors_of_refresh(site: Site) -> str:
    """What `ravectl refresh` complains of."""
    with pytest.raises(CommandFailed) as caught:
        refresh(site)
    return str(caught.value)


def of(site: Site, mesh: str) -> str:
    return site.machine.journal("-u", names.mesh_unit(mesh))


def test_a_file_becomes_a_command_without_a_restart_and_goes_again(
    site: Site, meshes: list[str], figure: Figure
) -> None:
    first, second = meshes
    pids, connections = site.pids(meshes), site.control.connections()
    assert site.control.chat(first, "?greet", wait=1.0) == []
    site.sh(f"cp /usr/share/doc/rave-orchestrator/examples/greet.py {DIRECTORY}/")
    said = site.sh("ravectl refresh")
    assert "Read again: " in said
    assert f"Plugin loaded: {DIRECTORY}/greet.py" in said
    for mesh in meshes:
        assert says(site, mesh, "ann", "?greet") == "Hello, Ann!"
        assert "greet" in says(site, mesh, "ann", "?help")
        assert f"Plugins read: {DIRECTORY}/greet.py (greet)" in of(site, mesh)
    assert site.manager("CommandErrors") == []

    drop(site, "greet.py", GREET.replace("Hello", "Good evening"))
    refresh(site)
    assert says(site, second, "ann", "?greet") == "Good evening, Ann!"

    site.sh(f"rm {DIRECTORY}/greet.py")
    assert "No bot has loaded a plugin." in site.sh("ravectl refresh")
    assert "greet" not in says(site, first, "ann", "?help")
    assert (site.pids(meshes), site.control.connections()) == (pids, connections), "nobody has noticed"
    figure("a plugin came, changed and went with the same processes and connections")


# A bot says one thing a second in the long run: two such files say less.
TALKER = """
import asyncio
from ravesvc.commands import every, on_load, on_unload

@every(5)
async def tick(event):
    await event.send("{n} ticks")

@on_load
async def load(event):
    asyncio.create_task(talk(event))

async def talk(event):
    while True:
        await asyncio.sleep(5)
        await event.send("{n} talks")

@on_unload
async def unload(event):
    await event.send("{n} ends")
"""


def test_what_a_file_has_begun_ends_with_it_in_all_rooms(site: Site, meshes: list[str]) -> None:
    def times(mesh: str, text: str) -> int:
        """How often the bot has said that there since the last refresh."""
        said = [each for each in site.control.events(seen) if each["type"] == "chat" and each["mesh"] == mesh]
        return [each["text"] for each in said].count(text)

    def wait_for(text: str, least: int = 1) -> None:
        for mesh in meshes:
            eventually(functools.partial(lambda mesh: times(mesh, text) >= least, mesh), f"{text} in {mesh}")

    drop(site, "witness.py", TALKER.replace("{n}", "witness"))
    for n, before in (("one", ""), ("two", "one ends")):
        seen = site.control.state()["seq"]
        drop(site, "talk.py", TALKER.replace("{n}", n))
        refresh(site)
        for text in filter(None, (before, f"{n} ticks", f"{n} talks")):
            wait_for(text)
    site.sh(f"rm {DIRECTORY}/talk.py")
    refresh(site)
    wait_for("two ends")
    # Of the other file, whose timer is as quick, all goes on meanwhile.
    seen = site.control.state()["seq"]
    wait_for("witness ticks", 2)
    wait_for("witness talks", 2)
    assert [times(mesh, f"two {verb}") for mesh in meshes for verb in ("ticks", "talks")] == [0, 0, 0, 0]


def test_a_new_bot_has_them_from_its_start(site: Site, meshes: list[str]) -> None:
    drop(site, "greet.py", GREET)
    site.sh("systemctl stop rave-orchestrator")
    site.control.wait(disconnected=meshes)
    site.sh("systemctl start rave-orchestrator")
    site.control.wait(connected=meshes)
    assert says(site, meshes[0], "ann", "?greet") == "Hello, Ann!"


def test_a_broken_file_is_named_everywhere_and_harms_nothing(site: Site, meshes: list[str]) -> None:
    mesh = meshes[0]
    drop(site, "greet.py", GREET)
    refresh(site)
    drop(site, "greet.py", GREET + "\nnonsense(\n")
    drop(site, "mean.py", GREET.replace("greet", "ping"))
    drop(site, "open.py", GREET.replace("greet", "hail"))
    drop(site, "hidden.py", GREET.replace("greet", "hide"))
    site.sh(f"chmod 646 {DIRECTORY}/open.py; chmod 600 {DIRECTORY}/hidden.py")
    drop(site, "theirs.py", GREET.replace("greet", "take"))
    site.sh(f"chown rave-mesh {DIRECTORY}/theirs.py")
    said = errors_of_refresh(site)
    for error in (
        "greet.py, line 7: SyntaxError: '(' was never closed",
        "hidden.py: it can't be read: Permission denied (chmod go+rX)",
        "mean.py, line 3: there is a command ping already: it belongs to the bot itself (take another name)",
        "open.py: others than root may write it (chmod go-w)",
        "theirs.py: it does not belong to root (chown root)",
    ):
        error = f"{DIRECTORY}/{error}"
        assert f"ravectl: plugins fail: {error}" in said
        assert error in site.manager("CommandErrors")
        assert f"Plugins fail in it: {error}." in site.sh(f"ravectl explain {mesh}")
        assert f"Plugins: {error}" in of(site, mesh)
    assert "plugins fail: " in site.sh("systemctl status rave-orchestrator")
    status = json.loads(site.call("GetStatus"))["data"][0]
    assert len(status["CommandErrors"]["data"]) == 5
    assert says(site, mesh, "ann", "?greet") == "Hello, Ann!", "the version before stays"
    assert says(site, mesh, "ann", "?ping") == "Pong!"
    site.sh(f"rm {DIRECTORY}/mean.py; chmod 644 {DIRECTORY}/*.py; chown root {DIRECTORY}/*.py")
    drop(site, "greet.py", GREET)
    refresh(site)
    assert site.manager("CommandErrors") == []
    for command in "greet", "hail", "hide", "take":
        assert says(site, mesh, "ann", f"?{command}") == "Hello, Ann!"


SLOW = """
import asyncio, time
from ravesvc.commands import command, on_message

@command("wait", "Waits.", seconds=1)
async def wait(context):
    await asyncio.sleep(60)

@command("hang", "Hangs.")
async def hang(context):
    time.sleep(60)

@command("fail", "Fails.")
async def fail(context):
    raise LookupError("internal detail")

@on_message
async def hear(event):
    await asyncio.sleep(60)
"""


def test_slow_and_failing_commands_are_named_and_harm_no_other(site: Site, meshes: list[str]) -> None:
    mesh = meshes[0]
    pids, connections = site.pids(meshes), site.control.connections()
    drop(site, "slow.py", SLOW)
    refresh(site)
    for _ in range(12):
        site.control.chat(mesh, "hello", user="bob")
    for command, told in (
        ("wait", "That took too long"),
        ("hang", "That took too long"),
        ("fail", "Something went wrong"),
    ):
        said = says(site, mesh, "ann", f"?{command}")
        assert told in said
        (incident,) = re.findall(r"\(error ([0-9a-f]{8})\)", said)
        assert incident in of(site, mesh)
        assert says(site, mesh, "bob", "?ping") == "Pong!"
        assert f"command {command} of {DIRECTORY}/slow.py" in of(site, mesh)
    assert f'File "{DIRECTORY}/slow.py", line 11, in hang' in of(site, mesh)
    told = f"{DIRECTORY}/slow.py: the command fail failed: LookupError"
    eventually(lambda: bool(site.manager("CommandErrors") == [told]), "the parent names it")
    assert told in site.sh(f"ravectl explain {mesh}")
    assert (site.pids(meshes), site.control.connections()) == (pids, connections), "the watchdog had nothing to do"
    drop(site, "endless.py", "while True:\n    pass\n")
    refresh_ended = site.sh("ravectl refresh", check=False)
    assert "Read again" in refresh_ended
    line = f"{DIRECTORY}/endless.py, line "
    eventually(
        lambda: any(line in error for error in site.manager("CommandErrors")), "the endless file is given up", 40
    )
    assert says(site, mesh, "bob", "?ping") == "Pong!"
    assert site.pids(meshes) == pids


LIMITED = """
from ravesvc.commands import Permission, command

@command("dice", "Rolls the dice.", cooldown=600)
async def dice(context):
    await context.reply("4")

@command("tidy", "Tidies up.", permission=Permission.ADMIN)
async def tidy(context):
    await context.reply("Done")
"""


def test_permission_and_cooldown(site: Site, meshes: list[str]) -> None:
    first, second = meshes
    site.sh(f"ravectl admin add {user_id(site, first, 'ann')}")
    drop(site, "limited.py", LIMITED)
    refresh(site)
    assert says(site, first, "bob", "?dice") == "4"
    assert "again in" in says(site, first, "bob", "?dice")
    assert says(site, first, "ann", "?dice") == "4"
    assert "nly admins may" in says(site, first, "bob", "?tidy")
    assert says(site, first, "ann", "?tidy") == "Done"
    assert "tidy" not in says(site, first, "bob", "?help")
    assert "• **?tidy**: Tidies up." in says(site, first, "ann", "?help more")
    says(site, first, "ann", "?setperm tidy user")
    assert says(site, second, "bob", "?tidy") == "Done"


PACKAGE = """
d=$(echo /usr/local/lib/python3.*/dist-packages)
mkdir -p $d/greetings-{version}.dist-info
cat > $d/greetings.py
printf 'Metadata-Version: 2.1\\nName: greetings\\nVersion: {version}\\n' > $d/greetings-{version}.dist-info/METADATA
printf '[ravesvc.commands]\\ngreet = greetings\\n' > $d/greetings-{version}.dist-info/entry_points.txt
"""


def test_an_installed_package_brings_commands(site: Site, meshes: list[str]) -> None:
    mesh = meshes[0]
    pids = site.pids(meshes)
    try:
        for version, word in ("1.0", "Hello"), ("1.1", "Good morning"):
            site.sh("rm -rf /usr/local/lib/python3.*/dist-packages/greetings*")
            script = PACKAGE.format(version=version)
            site.machine.run(["sh", "-ec", script], input=GREET.replace("Hello", word))
            refresh(site)
            assert says(site, mesh, "ann", "?greet") == f"{word}, Ann!"
    finally:
        site.sh("rm -rf /usr/local/lib/python3.*/dist-packages/greetings*")
    refresh(site)
    assert "greet" not in says(site, mesh, "ann", "?help")
    assert site.pids(meshes) == pids


LOOK = """
import os, time
from ravesvc.systemd.notify import notify
print("sees", os.listdir("/etc/rave"), os.stat("/etc/rave/commands.d").st_uid, flush=True)
for path in "/etc/rave/rave.yaml", "/run/rave/settings.json", "/var/lib/rave/state.db":
    try:
        open(path)
    except OSError as e:
        print(path, type(e).__name__, flush=True)
for path in "/etc/rave/x", "/etc/rave/commands.d/x":
    try:
        open(path, "w")
    except OSError as e:
        print(path, type(e).__name__, flush=True)
notify("READY=1")
time.sleep(60)
"""


def test_a_bot_sees_nothing_else_of_what_is_the_operators(site: Site) -> None:
    site.configure(NO_ROUND)
    site.run_fleet(1)
    with inside_a_bot(site, LOOK):
        said = site.machine.journal("-t", f"rave-mesh@{STRANGER}", "-o", "cat")
    assert "sees ['commands.d'] 0" in said
    for path in "/etc/rave/rave.yaml", "/run/rave/settings.json", "/var/lib/rave/state.db":
        assert re.search(rf"^{path} (FileNotFound|Permission)Error$", said, re.M), said
    for path in "/etc/rave/x", "/etc/rave/commands.d/x":
        assert re.search(rf"^{path} (OS|Permission)Error$", said, re.M), said


PARTY = """
import os
from ravesvc.commands import command, on_message
from ravesvc.common.picture import Picture
from ravesvc.common.video import Video

# The least that says that it is a picture of 9 x 16 pixels.
PNG = b"\\x89PNG\\r\\n\\x1a\\n\\x00\\x00\\x00\\rIHDR\\x00\\x00\\x00\\x09\\x00\\x00\\x00\\x10\\x08\\x02\\x00\\x00\\x00"

@command("party", "Puts a video on.")
async def party(context):
    page = "https://www.youtube.com/watch?v=sim-lantern"
    url = await context.rave.register(Video(provider="youtube", id="sim-lantern", url=page, seconds=212))
    await context.rave.vote(url)
    await context.reply("It is on")

@command("show", "Shows a picture.")
async def show(context):
    file = os.memfd_create("picture")
    os.write(file, PNG)
    with Picture(file) as picture:
        media = await context.rave.upload(picture)
    await context.reply("Look", media=[media])

@command("out", "Throws those out who are mentioned.")
async def out(context):
    for mention in context.message.mentions:
        await context.rave.kick(mention.user_id)
    await context.reply("Done")
"""


def test_a_command_puts_a_video_on_shows_a_picture_and_throws_out(site: Site, meshes: list[str]) -> None:
    mesh = meshes[0]
    drop(site, "party.py", PARTY)
    refresh(site)
    site.control.video(mesh, None)
    assert says(site, mesh, "ann", "?party") == "It is on"
    assert site.control.mesh(mesh)["plays"]["url"].startswith("https://api.red.wemesh.ca/videos/youtube/")

    assert says(site, mesh, "ann", "?show") == "Look"
    (shown,) = [event["media"] for event in site.control.events() if event["type"] == "chat" and event["media"]]
    assert "/pictures/" in shown[0]

    bob = user_id(site, mesh, "bob")
    site.control.leader(mesh, "ann")
    refused = says(site, mesh, "ann", "?out @bob", "bob")
    assert refused.startswith("Kicking that user failed: only the leader can do that")
    site.control.leader(mesh, "botty")
    assert says(site, mesh, "ann", "?out @bob", "bob") == "Done"
    assert bob not in [user["user_id"] for user in site.control.mesh(mesh)["users"]]
