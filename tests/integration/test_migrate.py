"""Moving in from the Node.js bot, on a booted system: its directory as it left it, and what becomes of it here."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.conftest import Site
from tests.integration.manual import commands
from tests.integration.mongo import DATABASE_FILE, Mongo
from tests.integration.test_blocklist import blocklist, entries

# Where the README has it.
OLD = "/opt/rave-bot"
CREDENTIALS = "/var/lib/rave/credentials.json"
HOUR = 3_600_000
IDENTITY = (
    *("request_hash_key", "mojo_api_key", "mojo_redirect_url", "parse_application_id", "parse_installation_id"),
    *("user_agent", "client_version", "app_build"),
)


@pytest.fixture
def fresh(site: Site) -> Iterator[Site]:
    """A service without an account, as after its installation, and an empty directory of the old bot's."""
    site.sh(f"rm -f {CREDENTIALS}; install -d {OLD}/config")
    yield site
    site.sh(f"systemctl stop rave-orchestrator.service rave-meshes.target; rm -rf {OLD} {DATABASE_FILE}")


def leave(site: Site, name: str, document: Any) -> None:
    """What the old bot writes: two-space indented, for all users to read."""
    text = document if isinstance(document, str) else json.dumps(document, indent=2)
    site.machine.run(["tee", f"{OLD}/config/{name}"], input=text)


def account(site: Site) -> dict[str, Any]:
    """The simulator's, with a prefix before its tokens."""
    document = dict(json.loads(site.sh("rave-simulator credentials")))
    return {key: f"r:{value}" if key.endswith("Token") else value for key, value in document.items()}


def entry(mesh: str, reason: str, until: int | None) -> dict[str, Any]:
    now = int(time.time() * 1000)
    return {"meshId": mesh, "reason": reason, "blockedAt": now - HOUR, "blockedUntil": until}


def migrate(site: Site) -> tuple[int, str]:
    """Exit status, and what was said on both streams."""
    done = site.machine.run(["ravectl", "migrate", OLD], check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_a_whole_move(fresh: Site) -> None:
    site = fresh
    free, kicked, failed, over = site.control.create(4)
    until = int(time.time() * 1000) + HOUR
    old = {
        kicked: entry(kicked, "kicked", None),
        failed: entry(failed, "connection_failures", until),
        over: entry(over, "connection_failures", until - 2 * HOUR),
    }
    leave(site, "credentials.json", account(site))
    leave(site, "blocklist.json", {"blockedMeshes": old})
    sums = site.sh(f"sha256sum {OLD}/config/*")
    site.control.invite([free, kicked, failed, over])
    site.sh("systemctl start rave-orchestrator")
    assert site.account("LoginNeeded") is True
    _, start, command, restart, *look = commands("Moving in from the old bot")
    site.sh(start)
    assert site.sh(command) == (
        "blocklist.json: 2 entries taken over, 0 blocked already, 1 left out because their time is over.\n"
        "credentials.json: the account is taken over.\n"
        "database.json: there is none.\n"
    )
    # To the millisecond, which the next start may round.
    shown = entries(site)
    assert set(shown) == {kicked, failed}
    assert (shown[kicked][0], shown[kicked][2], shown[kicked][4]) == ("kicked", 0, "root")
    assert (shown[failed][0], shown[failed][2]) == ("connection_failures", until * 1000)
    assert blocklist(site)["blockedMeshes"][failed]["blockedUntil"] == until
    assert blocklist(site)["blockedMeshes"][kicked]["blockedUntil"] is None
    said = "".join(site.sh(each) for each in (restart, *look))
    assert said.startswith("/etc/rave/rave.yaml is fine.\n")
    # The bot is there, with those credentials, but for the meshes that are blocked.
    site.control.wait(connected=[free, over])
    site.wait_state([free, over], "connected")
    site.wait_rounds(2)
    assert site.answers(free)
    assert set(site.control.connections()) == {free, over}
    site.wait_state([kicked, failed], "blocked")
    saved = json.loads(site.sh(f"cat {CREDENTIALS}"))
    assert saved == json.loads(site.sh("rave-simulator credentials")), "without r:"
    assert site.sh(f"stat -c '%a %U' {CREDENTIALS}").strip() == "600 rave"
    # Once more, also after a restart: nothing changes.
    before = site.sh(f"cat /var/lib/rave/blocklist.json {CREDENTIALS}"), site.pids([free, over])
    for _ in range(2):
        assert migrate(site) == (
            0,
            "blocklist.json: 0 entries taken over, 2 blocked already, 1 left out because their time is over.\n"
            "credentials.json: the account is known already, and stays as it is.\n"
            "database.json: there is none.\n",
        )
        assert (site.sh(f"cat /var/lib/rave/blocklist.json {CREDENTIALS}"), site.pids([free, over])) == before
        site.sh("systemctl restart rave-orchestrator")
        site.wait_state([free, over], "connected")
        # A new parent may write its list anew.
        before = site.sh(f"cat /var/lib/rave/blocklist.json {CREDENTIALS}"), site.pids([free, over])
    assert site.sh(f"sha256sum {OLD}/config/*") == sums
    assert set(entries(site)) == {kicked, failed}
    secrets = [value for key, value in saved.items() if key.endswith("Token")]
    journal = site.machine.journal()
    assert secrets
    assert not [secret for secret in secrets if secret in journal]


def source(identity: dict[str, str]) -> str:
    """The program of the old bot, with who it claims to be."""
    return f"""
        const SECRET = "{identity["request_hash_key"]}";
        const hash = createHmac("sha256", SECRET).update(text).digest("base64");
        const headers = {{ "User-Agent": "{identity["user_agent"]}",
                          "X-Parse-Application-Id": '{identity["parse_application_id"]}' }};
        const mojo = {{ "X-Api-Key": "{identity["mojo_api_key"]}" }};
        const link = "{identity["mojo_redirect_url"]}";
        // blocklistDuration: 1,
        const defaults = {{ discoveryInterval: 77 }};
        run({{ commandPrefix: ["#"], discoveryInterval: 2 * MINUTES, blocklistDuration: 2 * 3600000,
              statusPollInterval: 45, maxProcesses: Infinity }});
    """


def test_options_and_identity_move_too(fresh: Site) -> None:
    site = fresh
    (mesh,) = site.control.create()
    site.control.invite(mesh)
    text = site.sh("cat /etc/rave/rave.yaml")
    identity = {key: str(json.loads(value)) for key, value in re.findall(r'^  (\w+): (".*")$', text, re.MULTILINE)}
    named = "|".join((*IDENTITY, "command_prefix"))
    bare = re.sub(rf"^ *({named}): .*\n", "", text, flags=re.MULTILINE)
    site.machine.run(["tee", "/etc/rave/rave.yaml"], input=bare)
    leave(site, "credentials.json", account(site))
    site.machine.run(["tee", f"{OLD}/bot.js"], input=source(identity))
    site.sh("systemctl start rave-orchestrator")
    assert "client_identity lacks request_hash_key, " in site.manager("Status")
    status, said = migrate(site)
    assert status == 1, said
    assert "command_prefix, blocklist_duration, status_poll_interval, max_processes" in said
    assert "discovery_interval is not taken over: its value is not written plainly (bot.js:" in said
    assert said.index("rave.yaml: ") < said.index("the account is taken over")
    assert "until: ravectl roll" in said
    secrets = [identity[key] for key in IDENTITY if key.endswith(("_key", "_id"))]
    assert len(secrets) == 4
    assert not [secret for secret in secrets if secret in said]
    assert site.sh("stat -c '%a %U %G' /etc/rave/rave.yaml").strip() == "640 root rave"
    assert "blocklist_duration: 7200s" in site.sh("cat /etc/rave/rave.yaml")
    assert site.sh("ravectl config check") == "/etc/rave/rave.yaml is fine.\n"
    site.sh("systemctl restart rave-orchestrator")
    site.control.wait(connected=[mesh])
    site.wait_state([mesh], "connected")
    assert any("Pong" in text for text in site.control.chat(mesh, "#ping", wait=10.0))
    journal = site.machine.journal()
    assert not [secret for secret in secrets if secret in journal]


def test_a_database_moves_too(fresh: Site) -> None:
    site = fresh
    (mesh,) = site.control.create()
    site.control.invite(mesh)
    server = Mongo(site)
    server.start()
    try:
        saved = account(site)
        server.documents({"credentials": [{"_id": "bot_credentials", **saved}]})
        document = {"uri": "mongodb://127.0.0.1:27017/rave-bot", "options": {"maxPoolSize": 10, "minPoolSize": 2}}
        leave(site, "database.json", document)
        site.sh("systemctl start rave-orchestrator")
        status, said = migrate(site)
        assert status == 0
        assert f"database.json: copied to {DATABASE_FILE}.\n" in said
        assert site.sh(f"stat -c '%a %U %G' {DATABASE_FILE}").strip() == "640 root rave"
        assert site.store("Engine") == "embedded", "not before the restart that is asked for"
        restart = commands("Moving in from the old bot")[3]
        assert restart in said
        site.sh("ravectl config check")
        site.sh(restart)
        assert site.store("Engine") == "mongodb"
        site.control.wait(connected=[mesh])
        status, said = migrate(site)
        assert (status, "restart" in said) == (0, False)
        assert f"{DATABASE_FILE} says the same already" in said
        leave(site, "database.json", {**document, "uri": "mongodb://elsewhere/bot"})
        before = site.sh(f"cat {DATABASE_FILE}")
        status, said = migrate(site)
        assert (status, "says something else" in said) == (0, True)
        assert site.sh(f"cat {DATABASE_FILE}") == before
    finally:
        site.sh(f"systemctl stop rave-orchestrator.service rave-meshes.target; rm -f {DATABASE_FILE}")
        server.wipe()


def test_damaged_files_and_what_is_good_beside_them(fresh: Site) -> None:
    site = fresh
    kicked, torn = site.control.create(2)
    site.control.invite([kicked, torn])
    leave(site, "credentials.json", json.dumps(account(site))[:-40])
    entry_of = {"x": {}, torn: {"reason": "kicked"}, kicked: entry(kicked, "kicked", None)}
    leave(site, "blocklist.json", {"blockedMeshes": entry_of})
    leave(site, "database.json", '{"uri": "mongodb://bot:geheim@localhost/x", "options": {"useNewUrlParser": true}}')
    site.sh("systemctl start rave-orchestrator")
    status, said = migrate(site)
    assert status == 1
    assert f"{OLD}/config/credentials.json can't be used: it is not valid JSON" in said
    assert f"{OLD}/config/blocklist.json: the entry of 'x' can't be taken over" in said
    assert f"{OLD}/config/database.json:1: options.useNewUrlParser is not taken by the driver" in said
    assert f"the entry of {torn} can't be read" in said
    assert "2 entries taken over" in said
    assert "geheim" not in said
    assert set(entries(site)) == {kicked, torn}
    assert entries(site)[torn][2] == 0, "for ever"
    assert site.account("HasAccount") is False
    assert site.sh(f"ls {DATABASE_FILE} || true").strip() == ""
    # Mended, the rest is taken.
    leave(site, "credentials.json", account(site))
    site.sh(f"rm {OLD}/config/database.json")
    status, said = migrate(site)
    assert "credentials.json: the account is taken over." in said
    assert status == 1, "x is still there"
    site.wait_state([kicked, torn], "blocked")
    assert site.control.connections() == {}


def test_an_account_that_is_there_stays(fresh: Site) -> None:
    site = fresh
    site.give_credentials()
    site.sh("systemctl start rave-orchestrator")
    before = site.sh(f"cat {CREDENTIALS}")
    leave(site, "credentials.json", {**account(site), "email": "other@example.test", "userId": 4711, "peerId": ""})
    status, said = migrate(site)
    assert status == 0
    assert "not taken over, because there is another account" in said
    assert site.sh(f"cat {CREDENTIALS}") == before


def test_it_is_for_root_and_needs_the_service(fresh: Site) -> None:
    site = fresh
    leave(site, "credentials.json", account(site))
    assert migrate(site)[0] == 3, "not running"
    site.sh("systemctl start rave-orchestrator")
    done = site.machine.run(["ravectl", "migrate", OLD], user="nobody", check=False)
    assert (done.returncode, "hint: try as root" in done.stderr) == (4, True)
    assert site.account("HasAccount") is False


def test_the_configuration_is_checked_without_the_service(site: Site) -> None:
    assert site.sh("ravectl config check") == "/etc/rave/rave.yaml is fine.\n"
    site.set_options(limt=5, discovery_intervall="1s")
    try:
        said = site.sh("ravectl config check || echo status $?", check=False)
        assert "status 1" in said
        started = site.machine.run(["systemctl", "start", "rave-orchestrator"], check=False, timeout=30)
        assert started.returncode
        journal = site.machine.journal("-u", "rave-orchestrator", "-n", "20", "--output=cat").splitlines()
        problems = [line for line in said.splitlines() if line.startswith("/etc/rave/rave.yaml:")]
        assert len(problems) == 2
        for problem in problems:
            assert problem in journal, "in the same words"
        done = site.machine.run(["ravectl", "config", "check"], user="nobody", check=False)
        assert (done.returncode, "can't be read: Permission denied" in done.stderr) == (1, True)
    finally:
        site.sh("systemctl stop rave-orchestrator")
