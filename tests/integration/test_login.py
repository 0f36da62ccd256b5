"""Logging in by magic link: from nothing to a bot that answers, what can go wrong, and what must never be seen."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from ravesvc import names
from tests.integration.conftest import Site, eventually

EMAIL = "bot@example.test"


def status(site: Site) -> str:
    return site.sh("systemctl show --value -p StatusText rave-orchestrator")


def login(site: Site, *words: str) -> subprocess.Popen[str]:
    """A login under way: the mail is sent."""
    process = site.machine.spawn(["ravectl", "login", *words], stderr=subprocess.STDOUT)
    site.control.wait(mail=True)
    return process


def end(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=30)
    return said


@pytest.fixture
def empty(site: Site) -> Site:
    """The service up, without an account, and with two invitations waiting."""
    site.sh("rm /var/lib/rave/credentials.json")
    site.control.invite(site.control.create(2))
    site.sh("systemctl start rave-orchestrator")
    return site


def test_from_nothing_to_a_bot_that_answers(empty: Site) -> None:
    site = empty
    assert "login is needed: run ravectl login" in status(site)
    assert site.account("LoginNeeded") is True
    assert site.bots() == []
    process = login(site, EMAIL)
    eventually(lambda: site.account("LoginStep") == "waiting", "the step is shown")
    site.control.confirm(EMAIL)
    said = end(process)
    assert process.returncode == 0, said
    assert "ogged in" in said
    assert "\x1b" not in said, "plain lines when not on a terminal"
    meshes = list(site.control.state()["meshes"])
    site.control.wait(connected=meshes)
    assert all(site.answers(mesh) for mesh in meshes)
    assert site.sh("stat -c '%a %U' /var/lib/rave/credentials.json").strip() == "600 rave"
    assert site.account("LoginNeeded") is False
    # A restart needs no login.
    pids = site.pids(meshes)
    site.sh("systemctl restart rave-orchestrator")
    site.wait_state(meshes, "connected")
    assert site.pids(meshes) == pids


def test_on_a_terminal(empty: Site) -> None:
    command = ["script", "--quiet", "--return", "--command", f"ravectl login {EMAIL}", "/dev/null"]
    process = empty.machine.spawn(command)
    empty.control.wait(mail=True)
    empty.control.confirm(EMAIL)
    said = end(process)
    assert process.returncode == 0, said
    assert re.search(r"[-|/\\] Follow the link in the mail, (9:\d\d|10:00) left", said), (
        "a spinner, and the time left"
    )


def test_a_confirmation_after_some_polls(empty: Site) -> None:
    empty.control.option("confirm", "3")
    assert "ogged in" in empty.sh(f"ravectl login {EMAIL}")


def test_ctrl_c_cancels(empty: Site) -> None:
    process = empty.machine.spawn(["sh", "-c", f"ravectl login {EMAIL} 2>&1; echo status $?"])
    empty.control.wait(mail=True)
    empty.sh("pkill -INT -x ravectl")
    said = end(process)
    assert "status 130" in said
    assert "cancelled" in said
    assert "Traceback" not in said
    eventually(lambda: empty.account("LoginStep") == "", "the login has ended")
    assert "login is needed" in status(empty)


def test_one_at_a_time(empty: Site) -> None:
    process = login(empty, EMAIL)
    refused = empty.sh(f"ravectl login {EMAIL}", check=False)
    assert "under way" in refused
    empty.control.confirm(EMAIL)
    assert "ogged in" in end(process)


@pytest.mark.parametrize(
    ("target", "mode", "words"),
    [
        ("magiclink", "403", "refuse"),
        ("parse", "403", "refuse"),
        ("auth2", "403", "refuse"),
        ("magiclink", "reset", "can't be reached"),
    ],
)
def test_failures_are_told_apart(empty: Site, target: str, mode: str, words: str) -> None:
    empty.control.option("confirm", "0")
    empty.control.fail(target, mode)
    said = empty.sh(f"ravectl login {EMAIL} || echo status $?", check=False)
    assert words in said, said
    assert "status 1" in said
    assert "Traceback" not in said
    assert EMAIL not in empty.machine.journal()
    assert "login is needed" in status(empty)


def _wrong_key(site: Site) -> None:
    """What a mistake in the configuration, or a new key of Rave's, comes down to."""
    site.sh("sed -i 's/request_hash_key: .*/request_hash_key: \"0123456789abcdef\"/' /etc/rave/rave.yaml")


def test_a_wrong_signature_is_told_apart_from_a_session_that_is_over(site: Site) -> None:
    _wrong_key(site)
    site.sh("systemctl start rave-orchestrator")
    words = "Rave refuses the client identity (HTTP 401) (check client_identity.request_hash_key"
    eventually(lambda: words in status(site), "the status says it")
    assert "login is needed" not in status(site)
    assert site.account("LoginNeeded") is False
    check = site.machine.run(["ravectl", "status", "--check"], check=False)
    assert (check.returncode, words in check.stdout) == (2, True)
    site.control.forget_violations()


def test_a_server_that_gives_no_reason_is_found_out_by_a_login(site: Site) -> None:
    site.control.option("reasons", "none")
    site.control.option("confirm", "0")
    _wrong_key(site)
    site.sh("systemctl start rave-orchestrator")
    # Either may be the reason.
    words = "Rave refuses the session, or client_identity.request_hash_key is wrong"
    eventually(lambda: words in status(site), "the status names both")
    said = site.sh(f"ravectl login {EMAIL}", check=False)
    assert "refuses the signature" in said
    assert "client_identity.request_hash_key" in said
    # A token that is new can't be over.
    eventually(lambda: "login is needed" not in status(site), "no login is asked for")
    assert "refuses the signature" in status(site)
    # With the right key, and no login, all is well.
    site.configure()
    (mesh,) = site.control.create()
    site.control.invite(mesh)
    site.sh("systemctl restart rave-orchestrator")
    site.control.wait(connected=[mesh])
    site.control.forget_violations()


def test_a_clock_that_is_off_is_named_for_what_it_is(site: Site) -> None:
    # The server's is another one's, of the machine itself none can be set here.
    site.control.option("request_window", "0")
    site.sh("systemctl start rave-orchestrator")
    eventually(lambda: "the clock of this machine is wrong" in status(site), "the status says it")
    assert "login is needed" not in status(site)
    site.control.option("request_window", "300")
    (mesh,) = site.control.create()
    site.control.invite(mesh)
    # It is tried again by itself.
    site.control.wait(connected=[mesh])
    site.control.forget_violations()


def test_an_address_that_is_none(empty: Site) -> None:
    said = empty.sh("ravectl login nonsense || echo status $?", check=False)
    assert "address" in said
    assert "status 1" in said


def test_a_link_that_is_followed_too_late(empty: Site) -> None:
    empty.control.option("link_life", "0")
    said = empty.sh(f"ravectl login {EMAIL} || echo status $?", check=False)
    assert "in time" in said
    assert "status 1" in said


def test_a_user_without_rights_may_not_log_in(empty: Site) -> None:
    # Another address than the account's, since runuser(1) tells the journal what it runs.
    said = empty.sh("ravectl login nobody@example.test || echo status $?", user="nobody", check=False)
    assert "status 4" in said, said
    assert "org.freedesktop" not in said


def test_credentials_expire_in_mid_run(site: Site) -> None:
    meshes = site.run_fleet(3)
    first, *others = meshes
    pids, connections = site.pids(meshes), site.control.connections()
    stored = site.sh("cat /var/lib/rave/credentials.json")
    site.control.expire()
    eventually(lambda: "login is needed: run ravectl login" in status(site), "it says so")
    assert site.account("LoginNeeded") is True
    assert site.control.connections() == connections, "who is in, stays in"
    site.control.drop(first)
    eventually(lambda: names.mesh_unit(first) not in site.bots(), "who has to come back, cannot")
    assert site.sh("cat /var/lib/rave/credentials.json") == stored, "nothing is thrown away"
    site.control.forget_violations()
    process = login(site)
    site.control.confirm(EMAIL)
    assert "ogged in" in end(process)
    site.control.wait(connected=meshes)
    site.wait_state(meshes, "connected")
    assert site.pids(others) == {mesh: pids[mesh] for mesh in others}
    assert {mesh: site.control.connections()[mesh] for mesh in others} == {mesh: connections[mesh] for mesh in others}
    assert all(site.answers(mesh) for mesh in meshes)
    # The running ones have the new token: they come back with it.
    site.control.drop(others)
    site.control.wait(reconnected={mesh: connections[mesh] for mesh in others})
    assert site.pids(others) == {mesh: pids[mesh] for mesh in others}
    assert site.account("LoginNeeded") is False


def test_expired_before_the_start(site: Site) -> None:
    site.control.invite(site.control.create(1))
    stored = site.sh("cat /var/lib/rave/credentials.json")
    site.control.expire()
    site.sh("systemctl start rave-orchestrator")
    eventually(lambda: "login is needed: run ravectl login" in status(site), "it says so")
    assert site.bots() == []
    assert site.sh("cat /var/lib/rave/credentials.json") == stored
    site.control.forget_violations()


def test_another_account_means_another_identity(site: Site) -> None:
    meshes = site.run_fleet(2)
    site.control.option("confirm", "0")
    site.sh("ravectl login other@example.test")
    # Not invited under this name: the bots reconnect, and are turned away or let go.
    site.control.wait(disconnected=meshes)
    eventually(lambda: site.bots() == [], "no bot stays in meshes of another account")
    site.control.forget_violations()


def test_a_logout_stops_all_bots_until_the_next_login(site: Site) -> None:
    meshes = site.run_fleet(2)
    refused = site.sh("ravectl logout </dev/null || echo status $?", check=False)
    assert "--yes" in refused
    assert "status 1" in refused
    assert site.sh("ravectl logout --yes") == "Logged out.\n"
    site.control.wait(disconnected=meshes)
    eventually(lambda: site.bots() == [], "no bot stays without an account")
    assert "login is needed: run ravectl login" in status(site)
    (kept,) = site.sh("ls /var/lib/rave/credentials.json*").split()
    assert ".replaced-" in kept
    site.sh("systemctl restart rave-orchestrator")
    assert site.account("HasAccount") is False, "it stays like that"
    assert site.bots() == []
    site.control.option("confirm", "0")
    site.sh(f"ravectl login {EMAIL}")
    site.control.wait(connected=meshes)
    site.wait_state(meshes, "connected")


def test_secrets_are_nowhere_to_be_seen(empty: Site) -> None:
    site = empty
    site.configure_debug()
    site.sh("systemctl restart rave-orchestrator")
    process = login(site, EMAIL)
    eventually(lambda: site.account("LoginStep") == "waiting", "the login waits")
    known = {"email": EMAIL, **_identity(site)}
    assert EMAIL in site.sh("cat /proc/[0-9]*/cmdline", check=False), "a person gave it to ravectl"
    _assert_unseen(known, {name: site.sh(_of_all_but_ravectl(name), check=False) for name in ("cmdline", "environ")})
    site.control.confirm(EMAIL)
    end(process)
    meshes = list(site.control.state()["meshes"])
    site.control.wait(connected=meshes)
    site.wait_state(meshes, "connected")
    site.control.expire()
    eventually(lambda: site.account("LoginNeeded") is True, "the service meets a 401")
    site.control.forget_violations()
    secrets = _secrets(site)
    assert len(secrets) >= 5
    places = {
        "journal": site.machine.journal("-o", "export", "--all"),
        "argv": site.sh("cat /proc/[0-9]*/cmdline", check=False),
        "environment": site.sh("cat /proc/[0-9]*/environ", check=False),
        "systemctl show": site.sh("systemctl show '*'") + site.sh("systemctl show 'rave*' --all"),
        "properties": site.sh(
            f"busctl --json=short call {names.BUS_NAME} {names.MANAGER_PATH} org.freedesktop.DBus.ObjectManager"
            " GetManagedObjects"
        )
        + site.sh(f"busctl introspect {names.BUS_NAME} {names.MANAGER_PATH}")
        + site.call("GetStatus"),
        "systemctl status": site.sh("systemctl status 'rave*'", check=False),
    }
    _assert_unseen(secrets, places)


def test_an_address_that_is_asked_for_is_in_no_argument(empty: Site) -> None:
    command = ["script", "--quiet", "--return", "--command", "ravectl login", "/dev/null"]
    process = empty.machine.spawn(command, stdin=subprocess.PIPE)
    assert process.stdin
    process.stdin.write(f"{EMAIL}\n")
    process.stdin.flush()
    empty.control.wait(mail=True)
    seen = empty.sh("cat /proc/[0-9]*/cmdline", check=False)
    assert "ravectl" in seen
    assert EMAIL not in seen
    empty.control.confirm(EMAIL)
    assert "ogged in" in end(process)


def _of_all_but_ravectl(file: str) -> str:
    """A shell command for what a file of /proc holds for each process, but that of the operator's program."""
    return f'for each in /proc/[0-9]*; do [ "$(cat $each/comm)" = ravectl ] || cat $each/{file}; done'


def _assert_unseen(secrets: dict[str, str], places: dict[str, str]) -> None:
    for place, text in places.items():
        assert text, f"nothing was found in {place}"
        # The shell of this test is no process of ours; what it looks for stands in none of its arguments.
        found = [line for line in text.splitlines() for secret in secrets.values() if secret in line]
        assert not found, f"{found[:3]} in {place}"


def _secrets(site: Site) -> dict[str, str]:
    """The account's and the client's secrets, by name."""
    credentials = json.loads(site.sh("cat /var/lib/rave/credentials.json"))
    return {key: credentials[key] for key in ("email", "authToken", "parseToken")} | _identity(site)


def _identity(site: Site) -> dict[str, str]:
    """The client's secrets, and the token that the simulator's account has from the start."""
    account = json.loads(site.sh("cat /var/lib/rave-simulator/account.json"))
    keys = ("request_hash_key", "mojo_api_key", "parse_application_id")
    secrets = {key: account["identity"][key] for key in keys} | {"old token": account["session"]["auth_token"]}
    assert all(len(secret) > 8 for secret in secrets.values())
    return secrets
