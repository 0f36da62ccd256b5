"""What servers, keyboards and other bots do to chat."""

from __future__ import annotations

from ravesvc import names
from tests.integration.conftest import Site, eventually
from tests.integration.test_admins import says, user_id
from tests.integration.test_plugins import drop, refresh

# Seconds: a bot waits so long for an echo before it tries the other form, and half a minute longer for that one's.
ECHO_WAIT = 35.0


def said(site: Site, mesh: str, text: str) -> int:
    """How often the bot's message was shown in a mesh."""
    events = site.control.events()
    return sum(e["type"] == "chat" and (e["mesh"], e["user"], e["text"]) == (mesh, "botty", text) for e in events)


def explained(site: Site, mesh: str) -> str:
    return site.sh(f"ravectl explain {mesh}")


def test_a_server_that_shows_notifications_alone_shows_every_answer_once(site: Site) -> None:
    site.set_options(status_poll_interval="1s")
    site.control.option("chat_form", "notification")
    mesh, other = site.run_fleet(2)
    assert site.control.chat(mesh, "?ping", wait=ECHO_WAIT + 15) == ["Pong!"]
    # The others need not find that out by themselves.
    eventually(lambda: "notification" in site.call("Explain", "s", mesh), "the parent has heard of it")
    assert says(site, other, "ann", "?ping", wait=10.0) == "Pong!"
    # What it has learned holds, also for the next connection.
    assert says(site, mesh, "ann", "?ping", wait=10.0) == "Pong!"
    site.control.drop(mesh)
    site.control.wait(disconnected=[mesh])
    site.control.wait(connected=[mesh])
    assert says(site, mesh, "ann", "?ping", wait=10.0) == "Pong!"
    assert said(site, mesh, "Pong!") == 3
    assert "shows chat that comes as a notification" in site.machine.journal("-u", names.mesh_unit(mesh))
    assert "not shown" not in explained(site, mesh)


def test_an_echo_that_takes_half_a_minute_shows_nothing_twice(site: Site) -> None:
    site.control.option("echo_delay", 30)
    (mesh,) = site.run_fleet(1)
    for _ in range(3):
        assert says(site, mesh, "ann", "?ping") == "Pong!"
    # Those without an echo are counted after the last moment at which they could be sent again.
    site.control.option("echo_delay", "never")
    assert says(site, mesh, "ann", "?ping") == "Pong!"
    eventually(lambda: "1 message not shown" in explained(site, mesh), "it is counted", 2 * ECHO_WAIT + 40)
    assert said(site, mesh, "Pong!") == 4


def test_what_a_server_does_not_show_is_counted_and_told(site: Site) -> None:
    site.set_options(chat_form="request", status_poll_interval="1s")
    site.control.option("chat_form", "refusing")
    (mesh,) = site.run_fleet(1)
    assert site.control.chat(mesh, "?ping", wait=1.0) == []
    # The answer, and the words for its failure.
    eventually(lambda: "2 messages not shown by the server" in explained(site, mesh), "it is explained")
    assert site.manager("UnshownMessages") == 2
    eventually(lambda: "were not shown by a server: 2" in site.sh("ravectl status"), "it is in the status")
    eventually(lambda: "2 messages had no echo" in site.unit(mesh, "StatusText"), "systemd shows it")


def test_a_server_that_refuses_the_form_gets_the_other_at_once(site: Site) -> None:
    site.control.option("chat_form", "refusing")
    (mesh,) = site.run_fleet(1)
    assert says(site, mesh, "ann", "?ping") == "Pong!"


def test_a_command_is_the_same_command_in_every_spelling(site: Site) -> None:
    (mesh,) = site.run_fleet(1)
    drop(
        site,
        "size.py",
        'from ravesvc.commands import command\n\n@command("Größe", "Tells a size.")\n'
        'async def size(context):\n    await context.reply("Args: " + " ".join(context.args))\n',
    )
    try:
        refresh(site)
        for text in ("\uff1fping", "?\uff30\uff29\uff2e\uff27", "\u00bf\ufe0fPing", "?\u00a0p\u0131ng"):
            assert says(site, mesh, "ann", text) == "Pong!"
        assert says(site, mesh, "ann", "?GRO\u0308SSE It\u2019s \uff21") == "Args: It\u2019s \uff21"
        site.sh(f"ravectl admin add {user_id(site, mesh, 'ann')}")
        assert "admins only" in says(site, mesh, "ann", "?setperm \uff27r\u00f6\u00dfe \uff21dmin")
        for text in ("?größe", "?grösse", "\uff1fGRÖSSE", "?gro\u0308\u200dße"):
            assert "Only admins" in says(site, mesh, "bob", text)
        site.sh("ravectl perm unset GRÖSSE")
        assert says(site, mesh, "bob", "?größe").startswith("Args:")
    finally:
        site.sh(f"rm -f {names.COMMANDS_DIRECTORY}/size.py")


def test_a_message_that_is_delivered_twice_is_answered_once(site: Site) -> None:
    site.control.option("chat_copies", 2)
    (mesh,) = site.run_fleet(1)
    assert says(site, mesh, "ann", "?ping") == "Pong!"
    # Answers come one after another, so another one to the first message would be here by now.
    assert says(site, mesh, "ann", "?hello") == "Hello, Ann!"
    assert said(site, mesh, "Pong!") == 1


def test_a_user_is_ignored_in_all_meshes_and_heard_again(site: Site) -> None:
    first, second = site.run_fleet(2)
    bob = user_id(site, second, "bob")
    site.sh(f"ravectl admin add {user_id(site, first, 'ann')}")
    assert says(site, first, "ann", "?ignore @bob", "bob") == f"Ignored from now on: Bob ({bob})"
    assert site.control.chat(second, "?ping", user="bob", wait=1.0) == []
    assert says(site, second, "ann", "?ping") == "Pong!"
    assert str(bob) in site.sh("ravectl ignore list")
    assert "is an admin" in says(site, first, "ann", f"?ignore {user_id(site, first, 'ann')}")
    # It is the store that knows, so a new parent and new bots do.
    site.sh("systemctl stop rave-orchestrator")
    site.control.wait(disconnected=[first, second])
    site.sh("systemctl start rave-orchestrator")
    site.control.wait(connected=[first, second])
    assert says(site, second, "ann", "?ping") == "Pong!"
    assert site.control.chat(second, "?ping", user="bob", wait=1.0) == []
    assert "no longer" in site.sh(f"ravectl ignore remove {bob}")
    assert says(site, second, "bob", "?ping") == "Pong!"
    site.sh(f"ravectl ignore add {bob}")
    assert says(site, second, "ann", "?ignore @bob remove", "bob") == f"Listening again to: Bob ({bob})"
    assert says(site, first, "bob", "?ping") == "Pong!"


def test_users_that_the_options_name_are_ignored_from_the_start(site: Site) -> None:
    (mesh,) = site.run_fleet(1)
    assert says(site, mesh, "bob", "?ping") == "Pong!"
    site.set_options(ignored_users=f"[{user_id(site, mesh, 'bob')}]")
    site.sh("systemctl stop rave-orchestrator")
    site.control.wait(disconnected=[mesh])
    site.sh("systemctl start rave-orchestrator")
    site.control.wait(connected=[mesh])
    assert site.control.chat(mesh, "?ping", user="bob", wait=1.0) == []
    assert says(site, mesh, "ann", "?ping") == "Pong!"
