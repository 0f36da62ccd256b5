"""Watch parties: three rooms with five users each, who rule over what plays by chat alone."""

from __future__ import annotations

import pytest

from ravesvc import names
from tests.integration.conftest import Site, eventually
from tests.integration.test_admins import says, user_id

PEOPLE = ("ann", "bea", "cy", "dan", "eve")


@pytest.fixture
def rooms(site: Site) -> list[str]:
    """Rooms in which nothing plays; ann, who leads them, is an admin."""
    site.control.option("playback", "none")
    rooms = site.run_fleet(3)
    for room in rooms:
        site.control.join(room, *PEOPLE)
    site.sh(f"ravectl admin add {user_id(site, rooms[0], 'ann')}")
    return rooms


def present(site: Site, room: str) -> set[str]:
    return {user["handle"] for user in site.control.mesh(room)["users"]}


def leader(site: Site, room: str) -> str:
    return next(str(user["handle"]) for user in site.control.mesh(room)["users"] if user["leader"])


def kill_bot(site: Site, room: str) -> None:
    """End the bot's process at once, and wait until another is in the room."""
    before = site.control.connections()[room]
    site.sh(f"systemctl kill -s KILL {names.mesh_unit(room)}")
    site.control.wait(reconnected={room: before}, timeout=30)


def test_admins_moderate_and_what_they_did_is_kept(site: Site, rooms: list[str]) -> None:
    room, other, _ = rooms
    assert "only the leader" in says(site, room, "ann", "?kick @eve spam", "eve")
    assert present(site, room) >= {"eve"}
    assert "Only admins" in says(site, room, "bea", "?kick @eve", "eve")
    site.control.leader(room, "botty")
    assert "Kicked: Eve" in says(site, room, "ann", "?kick @eve spam", "eve")
    assert present(site, room) == {"ann", "bea", "cy", "dan", "botty"}
    assert present(site, other) >= {"eve"}
    assert "Muted: Dan" in says(site, room, "ann", "?mute @dan", "dan")
    assert site.control.mesh(room)["muted"] == [user_id(site, room, "dan")]
    assert "No longer muted: Dan" in says(site, room, "ann", "?unmute @dan", "dan")
    kill_bot(site, room)
    kept = says(site, room, "ann", "?modlog")
    assert "Eve" in kept
    assert "spam" in kept
    assert "Eve" not in says(site, other, "ann", "?modlog")
    # Who has left is no leader any longer, so a bot that was killed is not.
    assert leader(site, room) == "ann"
    site.control.leader(room, "botty")
    assert "The leader is now: Cy" in says(site, room, "ann", "?leader @cy", "cy")
    assert leader(site, room) == "cy"
    site.control.part(room, "cy")
    assert leader(site, room) == "ann"


def test_rooms_tell_what_plays_and_play_games(site: Site, rooms: list[str]) -> None:
    for room, mode in zip(rooms, ("VOTE", "QUICKPLAY", "LEADER"), strict=True):
        site.control.option("play_mode", mode)
        assert "Nothing plays" in says(site, room, "bea", "?meshinfo")
        site.control.vote(room, "sim-lantern")
        eventually(lambda room=room: "sim-lantern" in says(site, room, "bea", "?meshinfo"), "the bot knows it")
        site.control.playback(room, "pause")
        eventually(lambda room=room: "Paused" in says(site, room, "bea", "?meshinfo"), "the bot knows that")
        assert "Leader: Ann" in says(site, room, "bea", "?meshinfo")
        for game in ("?truth", "?truth PG13", "?dare r"):
            assert len(says(site, room, "cy", game)) > 10
