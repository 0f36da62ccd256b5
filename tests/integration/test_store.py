"""The service's memory: kill -9, MongoDB coming and going, moving between engines, damaged files."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ravesvc import names
from tests.integration.conftest import Figure, Site, eventually
from tests.integration.mongo import DATABASE_FILE, Mongo
from tests.integration.test_admins import ADMIN, INCIDENT, STRANGER, says, user_id

STATE = "/var/lib/rave/state.db"
CREDENTIALS = "/var/lib/rave/credentials.json"
CHANGES = 500
WHEN = "2024-01-08T10:00:00.123Z"
# Seconds from the server's return to a service that uses it.
RECOVERY = 10.0

# Runs in the machine as root: prints each change that was acknowledged, and goes on whatever happens to the service.
_WRITER = """
import asyncio, sys
from ravesvc import names
from ravesvc.bus import Bus
from ravesvc.errors import RaveError

async def main():
    bus = await Bus.connect()
    for number in range(int(sys.argv[1])):
        while True:
            try:
                await bus.call(names.BUS_NAME, names.MANAGER_PATH, names.PERMISSIONS_INTERFACE,
                               "SetPermission", "sb", f"command-{number}", number % 2 == 0, timeout=5)
            except RaveError:
                await asyncio.sleep(0.05)
                continue
            print(number, flush=True)
            break
    await bus.close()

asyncio.run(main())
"""


def status(site: Site) -> str:
    return site.sh("systemctl show --value -p StatusText rave-orchestrator")


def permissions(site: Site) -> dict[str, bool]:
    return {row[0]: row[1] for row in json.loads(site.call("ListPermissions"))["data"][0]}


def ping_for_admins(by: int) -> dict[str, Any]:
    """The document with which an operator keeps ?ping to admins."""
    named = {"_id": "ping", "commandName": "ping", "description": "Command: ping"}
    return {**named, "requiresAdmin": True, "updatedAt": {"$date": WHEN}, "updatedBy": by}


@pytest.fixture
def mongo(site: Site) -> Iterator[Mongo]:
    """A MongoDB server, stopped, that the service is configured to use."""
    server = Mongo(site)
    server.configure()
    yield server
    site.sh(f"systemctl stop rave-orchestrator.service rave-meshes.target; rm {DATABASE_FILE}")
    server.wipe()


@pytest.fixture(params=["embedded", "mongodb"])
def engine(site: Site, request: pytest.FixtureRequest) -> str:
    """The service may use either engine."""
    if request.param == "mongodb":
        request.getfixturevalue("mongo").start()
    return str(request.param)


@pytest.mark.faults
@pytest.mark.usefixtures("engine")
def test_a_killed_parent_loses_no_acknowledged_change(site: Site, figure: Figure) -> None:
    (mesh,) = site.run_fleet(1)
    acknowledged: list[int] = []
    begun = time.monotonic()
    with site.machine.spawn(["python3", "-I", "-c", _WRITER, str(CHANGES)]) as writer:
        output = writer.stdout
        assert output
        reader = threading.Thread(target=lambda: acknowledged.extend(int(line) for line in output))
        reader.start()
        for share in (1, 2, 3, 4):
            _until_more(acknowledged, share * CHANGES // 5)
            at_the_kill = len(acknowledged)
            site.kill_parent()
            _until_more(acknowledged, at_the_kill)
        reader.join(120)
        assert writer.wait(5) == 0
    elapsed = time.monotonic() - begun
    assert acknowledged == list(range(CHANGES))
    site.kill_parent()
    assert permissions(site) == {f"command-{number}": number % 2 == 0 for number in range(CHANGES)}
    assert site.answers(mesh)
    figure(f"{CHANGES} changes with 4 kills of the parent took {elapsed:.1f} s; none was lost")


def _until_more(acknowledged: list[int], number: int) -> None:
    eventually(lambda: len(acknowledged) > number, f"more than {number} changes are acknowledged", 60)


def test_mongodb_away_and_back(site: Site, mongo: Mongo, figure: Figure) -> None:
    # Down from the beginning: the meshes run, with the credentials of the file.
    meshes = site.run_fleet(2)
    ann = user_id(site, meshes[0], ADMIN)
    site.control.join(meshes[1], STRANGER)
    assert "store" in status(site)
    assert site.store("Error")
    assert site.store("Engine") == "mongodb"
    assert "StoreError" in site.call("GetStatus")
    refused = site.sh(f"ravectl admin add {ann} || echo status $?", check=False)
    assert "status 1" in refused
    assert "can't be" in refused
    # It comes: the file fills the store.
    begun = time.monotonic()
    mongo.start()
    eventually(lambda: not site.store("Error"), "the service has found it", RECOVERY + 5)
    recovered = [time.monotonic() - begun]
    (credentials,) = mongo.documents()["credentials"]
    assert credentials["_id"] == "bot_credentials"
    site.sh(f"ravectl admin add {ann}")
    says(site, meshes[0], ADMIN, "?setperm ping admin")
    # It goes in mid-run.
    mongo.stop()
    eventually(lambda: bool(site.store("Error")), "the service notices by itself")
    assert "Warning: " not in site.machine.journal("-u", "rave-orchestrator"), "Python does not warn of the driver"
    assert "store" in status(site)
    assert "nly admins may" in says(site, meshes[1], STRANGER, "?ping"), "permissions from the last good copy"
    assert "Pong" in says(site, meshes[1], ADMIN, "?ping")
    said = says(site, meshes[1], ADMIN, "?removeperm ping")
    assert "can't be" in said
    (incident,) = INCIDENT.findall(said)
    for unit in ("rave-orchestrator", names.mesh_unit(meshes[1])):
        assert incident in site.machine.journal("-u", unit), "one id finds the cause and the answer"
    # A parent that starts while it is away, and a bot: what an earlier run has read still holds.
    site.sh("systemctl restart rave-orchestrator")
    connections = site.control.connections()
    site.sh(f"systemctl restart {names.mesh_unit(meshes[1])}")
    site.control.wait(reconnected={meshes[1]: connections[meshes[1]]})
    assert "nly admins may" in says(site, meshes[1], STRANGER, "?ping")
    assert "Pong" in says(site, meshes[1], ADMIN, "?ping")
    begun = time.monotonic()
    mongo.start()
    eventually(lambda: not site.store("Error"), "the service has found it again", RECOVERY + 5)
    recovered.append(time.monotonic() - begun)
    says(site, meshes[1], ADMIN, "?removeperm ping")
    assert "Pong" in says(site, meshes[0], STRANGER, "?ping")
    # It hangs.
    mongo.freeze()
    begun = time.monotonic()
    said = says(site, meshes[1], ADMIN, "?setperm ping admin")
    assert "not known" in said
    assert "mongodb" not in said.lower(), "no internals in the chat"
    answered = time.monotonic() - begun
    assert "Pong" in says(site, meshes[0], ADMIN, "?ping"), "a server that hangs blocks nothing"
    begun = time.monotonic()
    mongo.thaw()
    eventually(lambda: not site.store("Error"), "the service goes on with it", RECOVERY + 5)
    recovered.append(time.monotonic() - begun)
    assert max(recovered) < RECOVERY
    seconds = ", ".join(f"{each:.1f}" for each in recovered)
    figure(f"MongoDB in use {seconds} s after its start was ordered (limit {RECOVERY:g} s)")
    figure(f"a change refused after {answered:.1f} s of a frozen server")


def test_an_outage_is_said_once(site: Site, mongo: Mongo) -> None:
    begun = site.sh("date +%s.%N").strip()
    (mesh,) = site.run_fleet(1)
    site.wait_rounds(3)
    assert site.answers(mesh)
    said = site.machine.journal("-u", "rave-orchestrator", "--output=cat", "-p", "warning", f"--since=@{begun}")
    about = [line for line in said.splitlines() if "MongoDB" in line or "store" in line]
    assert len(about) == 1, about


def test_a_database_of_the_reference_implementation(site: Site, mongo: Mongo) -> None:
    mongo.start()
    site.control.create(1)
    (mesh,) = site.control.state()["meshes"]
    ann, bob = user_id(site, mesh, ADMIN), user_id(site, mesh, STRANGER)
    credentials = json.loads(site.sh(f"cat {CREDENTIALS}"))
    when = {"$date": WHEN}
    mongo.documents(
        {
            "credentials": [{"_id": "bot_credentials", **credentials, "updatedAt": when}],
            "admin_users": [
                {"_id": str(ann), "userId": ann, "addedBy": ann, "addedAt": when, "isActive": True},
                {"_id": str(bob), "userId": bob, "addedBy": ann, "addedAt": when, "isActive": False},
            ],
            "command_permissions": [ping_for_admins(ann)],
        }
    )
    site.sh(f"rm {CREDENTIALS}")
    site.control.invite(mesh)
    site.sh("systemctl start rave-orchestrator")
    site.control.wait(connected=[mesh])
    assert json.loads(site.sh(f"cat {CREDENTIALS}")) == credentials, "the store fills the file"
    assert "nly admins may" in says(site, mesh, STRANGER, "?ping")
    assert "Pong" in says(site, mesh, ADMIN, "?ping")
    says(site, mesh, ADMIN, "?admin @bob", STRANGER)
    found = {document["_id"]: document for document in mongo.documents()["admin_users"]}
    assert found[str(bob)]["isActive"] is True
    unchanged = {"_id": str(ann), "userId": ann, "addedBy": ann, "addedAt": {"$date": WHEN}, "isActive": True}
    assert found[str(ann)] == unchanged


def test_refresh_takes_up_what_somebody_else_has_written(site: Site, mongo: Mongo) -> None:
    mongo.start()
    first, second = site.run_fleet(2)
    ann, bob = user_id(site, first, ADMIN), user_id(site, first, STRANGER)
    site.control.join(second, STRANGER)
    site.sh(f"ravectl admin add {ann}")
    when = {"$date": WHEN}
    mongo.documents(
        {
            "admin_users": [{"_id": str(bob), "userId": bob, "addedBy": ann, "addedAt": when, "isActive": True}],
            "command_permissions": [ping_for_admins(ann)],
        }
    )
    assert "nly admins may" in says(site, second, STRANGER, "?listperms"), "nobody has looked yet"
    assert "Pong" in says(site, second, "carl", "?ping")
    said = says(site, first, ADMIN, "?refresh")
    assert "2 admins" in said
    assert "1 command permission" in said
    assert "2 admins" in says(site, second, STRANGER, "?listperms"), "it holds in all meshes"
    assert "nly admins may" in says(site, second, "carl", "?ping")
    assert "Pong" in says(site, first, STRANGER, "?ping")


def test_moving_to_mongodb_and_back_loses_nothing(site: Site) -> None:
    meshes = site.run_fleet(2)
    ann = user_id(site, meshes[0], ADMIN)
    site.sh(f"ravectl admin add {ann}")
    says(site, meshes[0], ADMIN, "?admin @bob", STRANGER)
    says(site, meshes[0], ADMIN, "?admin @bob remove", STRANGER)
    says(site, meshes[0], ADMIN, "?setperm ping admin")
    says(site, meshes[0], ADMIN, "?setperm leave user")
    site.sh("ravectl store export /root/embedded.json")
    assert site.sh("stat -c %a /root/embedded.json").strip() == "600"
    pids = site.pids(meshes)
    mongo = Mongo(site)
    mongo.start()
    mongo.configure()
    try:
        site.sh("systemctl restart rave-orchestrator")
        assert site.store("Engine") == "mongodb"
        assert site.permissions("Admins") == 0
        site.sh("ravectl store import --yes /root/embedded.json")
        site.sh("ravectl store export /root/mongodb.json")
        assert len(mongo.documents()["admin_users"]) == 2
        assert "nly admins may" in says(site, meshes[1], STRANGER, "?ping")
        assert site.pids(meshes) == pids, "no bot has noticed"
    finally:
        site.sh(f"rm {DATABASE_FILE}")
    site.sh(f"systemctl stop rave-orchestrator; rm {STATE}; systemctl start rave-orchestrator")
    site.wait_state(meshes, "connected")
    site.sh("ravectl store import --yes /root/mongodb.json")
    site.sh("ravectl store export /root/back.json")
    mongo.wipe()
    embedded, there, back = (site.sh(f"cat /root/{name}.json") for name in ("embedded", "mongodb", "back"))
    assert embedded == there == back
    assert len(json.loads(embedded)["admin_users"]) == 2


def test_after_an_import_without_an_account_there_is_none(site: Site) -> None:
    (mesh,) = site.run_fleet(1)
    site.sh(f"ravectl admin add {user_id(site, mesh, ADMIN)}")
    site.sh("ravectl store export /root/whole.json")
    dump = {**json.loads(site.sh("cat /root/whole.json")), "credentials": None}
    site.machine.run(["tee", "/root/bare.json"], input=json.dumps(dump))
    refused = site.sh("ravectl store import - < /root/bare.json || echo status $?", check=False)
    assert "(1 admin, 0 command permissions, the account)" in refused
    site.sh("ravectl store import --yes /root/bare.json")
    (kept,) = site.sh(f"ls {CREDENTIALS}*").split()
    assert kept.startswith(f"{CREDENTIALS}.replaced-")
    for _ in range(2):
        assert json.loads(site.sh("ravectl store export - | cat")) == dump
        assert site.account("HasAccount") is False
        assert site.account("LoginNeeded") is True
        site.sh("systemctl restart rave-orchestrator")
    site.sh("ravectl store import --yes /root/whole.json")
    site.wait_state([mesh], "connected")
    assert site.answers(mesh)


@pytest.mark.parametrize("content", ["nonsense", "", "half"])
def test_a_damaged_database_is_kept(site: Site, content: str) -> None:
    meshes = site.run_fleet(1)
    ann = user_id(site, meshes[0], ADMIN)
    site.sh(f"ravectl admin add {ann}")
    site.sh("systemctl stop rave-orchestrator.service rave-meshes.target")
    if content == "half":
        site.sh(f"truncate -s 5000 {STATE}")
    else:
        site.sh(f"yes '{content}' | head -c 20000 > {STATE}")
    damaged = site.sh(f"sha256sum < {STATE}")
    site.sh("systemctl start rave-orchestrator")
    site.control.wait(connected=meshes)
    assert site.answers(meshes[0]), "the meshes run all the same"
    error = site.store("Error")
    (kept,) = site.sh(f"ls {STATE}.damaged-*").split()
    assert STATE in error
    assert kept in error or "damaged" in error
    assert site.sh(f"sha256sum < {kept}") == damaged
    assert "Traceback" not in site.machine.journal("-u", "rave-orchestrator")
    refused = site.sh(f"ravectl admin add {ann} || echo status $?", check=False)
    assert "status 1" in refused
    # It does not begin anew by itself.
    site.sh("systemctl restart rave-orchestrator")
    assert STATE in site.store("Error")
    # The fix: what the message says.
    site.sh(f"rm {kept}; systemctl restart rave-orchestrator")
    assert not site.store("Error")
    site.sh(f"ravectl admin add {ann}")


def test_an_unreadable_database(site: Site) -> None:
    site.control.invite(site.control.create(1))
    site.sh(f"install -m 600 -o root /dev/null {STATE}; systemctl start rave-orchestrator")
    assert STATE in site.store("Error")
    assert site.sh(f"stat -c %U {STATE}").strip() == "root"


def test_an_unreadable_database_json(site: Site) -> None:
    site.machine.run(["install", "-m", "600", "/dev/stdin", DATABASE_FILE], input='{"uri": "mongodb://localhost/x"}')
    started = site.machine.run(["systemctl", "start", "rave-orchestrator"], check=False, timeout=30)
    assert started.returncode
    said = site.machine.journal("-u", "rave-orchestrator", "-n", "20")
    assert f"{DATABASE_FILE} can't be read by the user rave" in said
    assert f"chown root:rave {DATABASE_FILE} && chmod 0640 {DATABASE_FILE}" in said
    site.sh(f"systemctl stop rave-orchestrator; rm {DATABASE_FILE}")


def test_a_database_json_that_is_a_link_to_nowhere(site: Site) -> None:
    site.sh(f"ln -s nowhere {DATABASE_FILE}")
    started = site.machine.run(["systemctl", "start", "rave-orchestrator"], check=False, timeout=30)
    assert started.returncode
    said = site.machine.journal("-u", "rave-orchestrator", "-n", "20")
    assert f"{DATABASE_FILE} is a link to nowhere (fix the link, or remove it to use the embedded store)" in said
    site.sh(f"systemctl stop rave-orchestrator; rm {DATABASE_FILE}")


def test_unreadable_credentials(site: Site) -> None:
    site.control.invite(site.control.create(1))
    site.sh(f"chown root {CREDENTIALS}; systemctl start rave-orchestrator")
    said = status(site)
    assert CREDENTIALS in said
    assert "ravectl login" in said
    assert site.bots() == []
    assert site.sh(f"stat -c %U {CREDENTIALS}").strip() == "root"


def test_credentials_laid_there_by_hand_become_private(site: Site) -> None:
    site.control.invite(site.control.create(1))
    site.sh(f"chown root {CREDENTIALS}; chmod 644 {CREDENTIALS}; systemctl start rave-orchestrator")
    site.control.wait(connected=list(site.control.state()["meshes"]))
    assert site.sh(f"stat -c '%a %U' {CREDENTIALS}").strip() == "600 rave"


def test_damaged_credentials_give_way_to_the_store(site: Site) -> None:
    meshes = site.run_fleet(1)
    good = json.loads(site.sh(f"cat {CREDENTIALS}"))
    site.sh("systemctl stop rave-orchestrator.service rave-meshes.target")
    site.sh(f'printf \'{{"email": "half\' > {CREDENTIALS}')
    site.sh("systemctl start rave-orchestrator")
    site.control.wait(connected=meshes)
    assert json.loads(site.sh(f"cat {CREDENTIALS}")) == good
    (kept,) = site.sh(f"ls {CREDENTIALS}.damaged-*").split()
    assert site.sh(f"cat {kept}") == '{"email": "half'
    assert kept in site.machine.journal("-u", "rave-orchestrator")


def test_damaged_credentials_without_a_store(site: Site) -> None:
    site.control.invite(site.control.create(1))
    site.sh(f'printf \'{{"email": "half\' > {CREDENTIALS}')
    site.sh("systemctl start rave-orchestrator")
    said = status(site)
    assert CREDENTIALS in said
    assert "ravectl login" in said
    assert site.sh(f"cat {CREDENTIALS}") == '{"email": "half', "nothing touches it yet"
    site.control.option("confirm", "0")
    site.sh("ravectl login bot@example.test")
    (kept,) = site.sh(f"ls {CREDENTIALS}.damaged-*").split()
    assert site.sh(f"cat {kept}") == '{"email": "half'
    site.control.wait(connected=list(site.control.state()["meshes"]))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"uri": "mongodb://user:geheim@127', ":1: this is not JSON"),
        ('{"url": "mongodb://user:geheim@localhost"}', ":1: url is not an option (did you mean uri?)"),
        (
            '{"uri": "mongodb://localhost/x", "options": {"maxPoolSize": "geheim"}}',
            ":1: options.maxPoolSize is not taken by the driver, or not with this value",
        ),
    ],
)
def test_a_damaged_database_json_stops_the_start(site: Site, content: str, words: str) -> None:
    site.machine.run(["install", "-m", "640", "-g", "rave", "/dev/stdin", DATABASE_FILE], input=content)
    try:
        started: subprocess.CompletedProcess[str] = site.machine.run(
            ["systemctl", "start", "rave-orchestrator"], check=False, timeout=30
        )
        assert started.returncode
        said = site.machine.journal("-u", "rave-orchestrator", "-n", "20")
        assert f"{DATABASE_FILE}{words}" in said
        assert "geheim" not in said
        assert site.sh(f"cat {DATABASE_FILE}") == content
    finally:
        site.sh(f"systemctl stop rave-orchestrator; rm {DATABASE_FILE}")


@pytest.mark.faults
def test_bus_names_stay_out_of_sight(site: Site) -> None:
    """A parent that is away: what an admin is told in chat."""
    (mesh,) = site.run_fleet(1)
    site.sh(f"ravectl admin add {user_id(site, mesh, ADMIN)}")
    assert "1 admin" in says(site, mesh, ADMIN, "?listperms")
    site.sh("systemctl kill -s STOP rave-orchestrator")
    try:
        said = says(site, mesh, ADMIN, "?setperm ping admin", wait=40.0)
    finally:
        site.sh("systemctl kill -s CONT rave-orchestrator")
    assert "does not answer" in said
    assert "org." not in said
    assert names.BUS_NAME not in said
