"""What plugins can do, with real bots: they remember, share, reach other servers, and get secrets."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ravesvc import names
from tests.integration.conftest import CHECKOUT, Site, eventually
from tests.integration.test_admins import says, user_id
from tests.integration.test_plugins import drop, refresh
from tests.lessons import printed

DIRECTORY = names.COMMANDS_DIRECTORY
SHIPPED = "/usr/share/rave-orchestrator/plugins"
DROP_IN = "/run/systemd/system/rave-mesh@.service.d/secrets.conf"


@pytest.fixture
def meshes(shared_site: Site) -> Iterator[list[str]]:
    """Two meshes; afterwards there are no plugins."""
    yield shared_site.run_fleet(2)
    shared_site.sh(f"rm -f {DIRECTORY}/*.py")
    refresh(shared_site)


def restart(site: Site, meshes: list[str]) -> None:
    """Service and bots."""
    connections = site.control.connections()
    # Else systemd refuses the seventh start of a bot within minutes, all tests of this file together.
    site.sh("systemctl reset-failed 'rave-mesh@*'; systemctl restart rave-orchestrator 'rave-mesh@*'")
    site.control.wait(reconnected=connections)
    for mesh in meshes:
        # Until the service has told it the permissions it runs no command.
        eventually(functools.partial(lambda mesh: says(site, mesh, "ann", "?ping") == "Pong!", mesh), "it answers")


def test_a_bot_mentions_reacts_and_sees_reactions(shared_site: Site, meshes: list[str]) -> None:
    """With the commands that docs/commands.md prints."""
    site, (mesh, _) = shared_site, meshes
    drop(site, "praise.py", printed("praise"))
    drop(site, "vote.py", printed("vote"))
    refresh(site)
    seen = site.control.events()[-1]["seq"]
    bob = user_id(site, mesh, "bob")
    assert says(site, mesh, "ann", f"?praise {bob}") == "Well done @Bob, says @Ann"
    (mentions,) = [
        each["mentions"] for each in site.control.events(seen) if each.get("user") == "botty" and "mentions" in each
    ]
    assert mentions == ["Bob", "Ann"]
    assert site.control.chat(mesh, "?vote", user="bob", wait=15, answers=None) == ["Pizza? React with 👍 or 👎"]
    events = site.control.events(seen)
    (asked,) = [each["id"] for each in events if each.get("text") == "?vote"]
    (reacted,) = [each for each in events if each["type"] == "reaction"]
    assert (reacted["user"], reacted["emoji"], reacted["to"]) == ("botty", "👍", asked)
    assert site.control.react(mesh, "👍", user="bob", wait=15) == ["Bob is for it"]
    assert site.control.react(mesh, "👎", user="ann", wait=5) == []
    assert site.control.violations() == []


def test_plugins_share_a_file_and_are_loaded_anew_with_it(shared_site: Site, meshes: list[str]) -> None:
    """With the files that docs/commands.md prints."""
    site, (mesh, _) = shared_site, meshes
    drop(site, "darts.py", printed("dart"))
    drop(site, "roll.py", printed("roll"))
    helper = printed("_scores")
    drop(site, "_scores.py", helper)
    refresh(site)
    assert re.fullmatch("You have [0-9]+", says(site, mesh, "ann", "?dart"))
    listed = versions(site)
    assert set(listed) == {"darts.py", "roll.py"}
    drop(site, "_scores.py", helper.replace("score + points", "-1"))
    refresh(site)
    assert says(site, mesh, "ann", "?dart") == "You have -1"
    after = versions(site)
    assert after["darts.py"] != listed["darts.py"]
    assert after["roll.py"] == listed["roll.py"]
    drop(site, "_scores.py", "1 +")
    refreshed = site.sh("ravectl refresh", check=False)
    assert f"{DIRECTORY}/_scores.py, line 1: SyntaxError" in refreshed
    assert says(site, mesh, "ann", "?dart") == "You have -1"
    assert "SyntaxError" in site.sh(f"ravectl plugin check {DIRECTORY}/darts.py", check=False)


LIBRARIES = names.LIBRARIES_DIRECTORY
MEASURE = """
import websockets
from measures import feet
from ravesvc.commands import command

@command("feet", "Says a length in feet.")
async def say(context, meters: float):
    await context.reply(f"{feet(meters)}, {hasattr(websockets, 'connect')}")
"""


def wheel(directory: Path, version: str, factor: float) -> Path:
    """A library as PyPI has it, which also tries to replace one of Debian's."""
    path = directory / f"measures-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        about = f"measures-{version}.dist-info"
        contents = {
            "measures/__init__.py": f"def feet(meters):\n    return round(meters * {factor}, 1)\n",
            "websockets/__init__.py": "",
            f"{about}/METADATA": f"Metadata-Version: 2.1\nName: measures\nVersion: {version}\n",
            f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: none\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{about}/RECORD": "",
        }
        for name, content in contents.items():
            file.writestr(name, content)
    return path


def test_a_plugin_imports_a_library_that_pip_has_installed_for_plugins(
    shared_site: Site, meshes: list[str], tmp_path: Path
) -> None:
    """By the pip of the tests: the machine has none."""
    site, (mesh, other) = shared_site, meshes

    def install(version: str, factor: float) -> None:
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--no-index",
            "--quiet",
            "--root-user-action=ignore",
            "--upgrade",
        ]
        target = site.machine.path(LIBRARIES)
        subprocess.run([*pip, "--target", str(target), str(wheel(tmp_path, version, factor))], check=True, timeout=60)

    drop(site, "feet.py", MEASURE)
    try:
        told = site.sh("ravectl refresh", check=False)
        assert f"{DIRECTORY}/feet.py, line 3: ModuleNotFoundError: No module named 'measures'" in told
        install("1.0", 3.3)
        assert "is fine" in site.sh(f"ravectl plugin check {DIRECTORY}/feet.py")
        refresh(site)
        assert says(site, mesh, "ann", "?feet 10") == "33.0, True"
        install("1.1", 3.28)
        refresh(site)
        assert says(site, mesh, "ann", "?feet 10") == "33.0, True"
        restart(site, meshes)
        assert says(site, other, "ann", "?feet 10") == "32.8, True"
        site.sh(f"chown daemon {LIBRARIES}/measures/__init__.py")
        restart(site, meshes)
        told = site.sh("ravectl refresh", check=False)
        assert f"{LIBRARIES}/measures/__init__.py: it does not belong to root (chown root)" in told
        assert "feet" not in says(site, mesh, "ann", "?help")
        assert "it does not belong to root" in site.sh(f"ravectl plugin check {DIRECTORY}/feet.py", check=False)
    finally:
        site.sh(f"rm -rf {LIBRARIES}")


def versions(site: Site) -> dict[str, str]:
    """That of each file of plugins."""
    rows = [line.split() for line in site.sh("ravectl plugin list").splitlines()[1:]]
    return {source.removeprefix(f"{DIRECTORY}/"): version for source, version, *_ in rows}


WINNERS = """
from ravesvc.commands import command

@command("win", "Counts wins in all rooms.")
async def win(context):
    mine = await context.shared.of(context.user_id).update("wins", lambda wins: wins + 1, 0)
    of_all = await context.shared.update("wins", lambda wins: wins + 1, 0)
    await context.reply(f"{mine} of {of_all}")
"""


def test_what_a_plugin_keeps_outlives_bot_and_service_and_is_forgotten(shared_site: Site, meshes: list[str]) -> None:
    """With the commands that docs/commands.md prints, and one that counts in all rooms."""
    site, (mesh, other) = shared_site, meshes
    drop(site, "points.py", printed("points"))
    drop(site, "winners.py", WINNERS)
    refresh(site)
    assert says(site, mesh, "ann", "?points") == "No points yet"
    assert says(site, mesh, "ann", "?point") == "1 of 1 points are yours"
    assert says(site, mesh, "bob", "?point") == "1 of 2 points are yours"
    assert says(site, mesh, "ann", "?win") == "1 of 1"
    assert says(site, other, "ann", "?win") == "2 of 2"
    assert says(site, other, "bob", "?win") == "1 of 3"
    restart(site, meshes)
    assert says(site, mesh, "ann", "?point") == "2 of 3 points are yours"
    assert says(site, other, "ann", "?points") == "No points yet"
    kept = {each["name"] for each in json.loads(site.sh("ravectl store export"))["room_documents"]}
    assert {"plugin-points", "plugin-winners"} <= kept
    says(site, mesh, "bob", "?forgetme")
    says(site, mesh, "bob", "?forgetme yes")
    assert says(site, mesh, "ann", "?points") == "Ann: 2"
    assert says(site, other, "bob", "?win") == "1 of 4"


def test_the_plugins_of_the_package_are_enabled_by_a_link(shared_site: Site, meshes: list[str]) -> None:
    site, (mesh, _) = shared_site, meshes
    shipped = site.sh(f"ls {SHIPPED}").split()
    assert shipped == [file.name for file in sorted((CHECKOUT / "docs/examples").glob("*.py"))]
    checked = site.sh(f"ravectl plugin check {SHIPPED}/*.py")
    assert checked.count(" is fine.\n") == len(shipped)
    site.sh(f"ln -s {SHIPPED}/*.py {DIRECTORY}/")
    refresh(site)
    assert re.fullmatch("Ann rolls a [12]", says(site, mesh, "ann", "?roll 2"))
    listed = {line.split()[0]: line for line in site.sh("ravectl plugin list").splitlines()[1:]}
    assert set(listed) == {f"{DIRECTORY}/{name}" for name in shipped}
    meshes_of_all = len(site.control.connections())
    assert re.search(rf"  [0-9a-f]{{8}}  {meshes_of_all} +roll$", listed[f"{DIRECTORY}/dice.py"])
    assert "can't be read" not in site.sh("ravectl config check", check=False)


def test_a_plugin_asks_another_server_with_a_secret_of_the_operator(shared_site: Site, meshes: list[str]) -> None:
    """Rave's host is the only one that a bot reaches here, as it may be anywhere; it has no such page."""
    site, (mesh, other) = shared_site, meshes
    (api,) = re.findall(r'^ +api: "(.+)"', site.sh("cat /etc/rave/rave.yaml"), re.M)
    secrets = {"ai-key": "verysecret", "ai-model": "small", "ai-url": f"{api}/v1/chat/completions"}
    lines = ["[Service]"]
    for name, text in secrets.items():
        site.machine.run(["install", "-m", "600", "/dev/stdin", f"/etc/rave/{name}"], input=text)
        lines.append(f"OpenFile=/etc/rave/{name}:secret-{name}:read-only,graceful")
    site.sh(f"ln -s {SHIPPED}/ai.py {DIRECTORY}/")
    refresh(site)
    try:
        assert "operator has handed over no secret ai-url" in says(site, mesh, "ann", "?ai Well?")
        site.machine.run(["install", "-D", "-m", "644", "/dev/stdin", DROP_IN], input="\n".join(lines))
        site.sh("systemctl daemon-reload")
        restart(site, meshes)
        assert "AI does not know the operator's model or URL" in says(site, mesh, "ann", "?ai Well?")
        site.machine.run(["tee", "/etc/rave/ai-url"], input="https://127.0.0.1/v1/chat/completions")
        restart(site, meshes)
        # The sandbox is the first to refuse it.
        assert "127.0.0.1 can't be reached: " in says(site, other, "ann", "?ai Well?")
        assert "verysecret" not in site.machine.journal()
    finally:
        site.sh(f"rm -f {DROP_IN} /etc/rave/ai-*; systemctl daemon-reload")
        # No client of Rave's asks for such a page.
        wrong = {violation["where"] for violation in site.control.violations()}
        site.control.forget_violations()
    assert wrong == {"POST /v1/chat/completions"}


def test_a_room_has_its_own_settings_of_a_plugin(shared_site: Site, meshes: list[str]) -> None:
    """With the plugin of the package: admins change it by chat, operators by ravectl; a new bot has what was set."""
    site, (mesh, other) = shared_site, meshes
    default = "Welcome, {names}! I am a bot."
    site.sh(f"ravectl admin add {user_id(site, mesh, 'eve')}")
    site.sh(f"ln -s {SHIPPED}/welcome.py {DIRECTORY}/")
    refresh(site)
    assert "Changed:" in says(site, mesh, "eve", "?settings welcome.greeting Hi {names}, look around")
    assert says(site, mesh, "eve", "?welcome") == "The welcome is on: Hi {names}, look around"
    assert says(site, other, "eve", "?welcome").startswith(f"The welcome is on: {default}")
    listed = site.sh(f"ravectl settings {mesh}")
    assert re.search(r"^welcome.greeting  Hi {names}, look around  What users who join are told", listed, re.M)
    assert re.search(r"^lang +default ", listed, re.M)
    assert site.sh(f"ravectl settings {other} welcome.greeting").startswith(f"welcome.greeting: {default}")
    site.sh(f"ravectl settings {mesh} welcome.greeting 'Hello {{names}}'")
    site.sh(f"ravectl settings {other} lang de")
    assert "root has set welcome.greeting of mesh" in site.machine.journal("-u", "rave-orchestrator")
    assert says(site, mesh, "eve", "?welcome") == "The welcome is on: Hello {names}"
    assert "there is no setting colour" in site.sh(f"ravectl settings {mesh} colour red 2>&1", check=False)
    restart(site, meshes)
    changed = "The welcome is on: Hello {names}"
    eventually(lambda: says(site, mesh, "eve", "?welcome") == changed, "the bot has read what was set")
    eventually(lambda: "Hallo" in says(site, other, "eve", "?hello"), "German")
    site.sh(f"ravectl settings {mesh} welcome.greeting default; ravectl settings {other} lang default")
    assert says(site, mesh, "eve", "?welcome").startswith(f"The welcome is on: {default}")
    site.sh(f"ravectl stop {mesh}")
    refused = site.sh(f"ravectl settings {mesh} 2>&1", check=False)
    assert "does not run, because it was stopped by an operator" in refused
    site.sh(f"ravectl start {mesh}")
