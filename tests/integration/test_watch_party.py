"""Watch parties: rooms with five users each, who rule over what plays by chat alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ravesvc import names
from tests.integration.conftest import Site, eventually
from tests.integration.test_admins import says, user_id

PEOPLE = ("ann", "bea", "cy", "dan", "eve")
LINK = "https://youtu.be/"
# For what the bot does by itself; it keeps some distance between its calls.
PATIENCE = 30.0


@pytest.fixture
def rooms(site: Site) -> list[str]:
    """Rooms in which nothing plays; ann, who leads them, is an admin."""
    return _open_rooms(site, 3)


@pytest.fixture
def room(site: Site) -> str:
    """One such room."""
    return _open_rooms(site, 1)[0]


def _open_rooms(site: Site, count: int) -> list[str]:
    site.control.option("playback", "none")
    rooms = site.run_fleet(count)
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


@pytest.fixture
def key(site: Site) -> Iterator[None]:
    """The operator has a key, so that rooms can search."""
    site.sh("rave-simulator youtube-key | install -m 600 /dev/stdin /etc/rave/youtube.key")
    yield
    site.sh("rm /etc/rave/youtube.key; systemctl stop rave-media.service")


def plays(site: Site, room: str) -> str | None:
    """The provider's id of what plays."""
    playing = site.control.mesh(room)["plays"]
    return str(playing["video"]) if playing else None


def wait_playing(site: Site, room: str, video: str | None) -> None:
    eventually(lambda: plays(site, room) == video, f"{video} plays", PATIENCE)


def let_end(site: Site, room: str) -> None:
    """Have the leader move what plays to its last second."""
    last = site.control.mesh(room)["plays"]["seconds"] - 1
    site.control.playback(room, position=last, user=leader(site, room))


def search(site: Site, room: str, user: str, words: str) -> list[dict[str, Any]]:
    """The messages with the hits of a search."""
    seen = site.control.state()["seq"]
    says(site, room, user, f"?search {words}")

    def hits() -> list[dict[str, Any]]:
        events = site.control.events(seen)
        said = [e for e in events if (e["type"], e.get("mesh"), e.get("user")) == ("chat", room, "botty")]
        return [e for e in said if e["text"][:1].isdigit()]

    eventually(lambda: len(hits()) == 3, f"three hits for {words}", PATIENCE)
    return hits()


def waiting(site: Site, room: str) -> list[str]:
    """The titles in the queue, in order."""
    lines = says(site, room, "eve", "?queue").splitlines()
    return [line.partition(". ")[2].rpartition(", for ")[0] for line in lines if line[:1].isdigit() and ". " in line]


@pytest.mark.usefixtures("key")
def test_five_users_search_queue_and_skip_in_three_rooms_at_once(site: Site, rooms: list[str]) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda room: hold_party(site, room), rooms))


def hold_party(site: Site, room: str) -> None:
    hits = search(site, room, "ann", "paper boats")
    assert all(len(hit["media"]) == 1 for hit in hits)
    says(site, room, "ann", "?set 1")
    wait_playing(site, room, "sim-lantern")
    assert "The Lantern Song" in says(site, room, "bea", "?nowplaying")
    for user, what in (("bea", f"{LINK}sim-harbour"), ("bea", f"{LINK}sim-teapots"), ("cy", "kittens vacuum")):
        says(site, room, user, f"?play {what}")
    # Turn by turn: cy asked last, and comes before the second of bea's.
    assert [title.split()[0] for title in waiting(site, room)] == ["Harbour", "Kittens", '"Teapots"']
    assert plays(site, room) == "sim-lantern"
    let_end(site, room)
    wait_playing(site, room, "sim-harbour")
    for user in ("cy", "dan"):
        assert "of 3" in says(site, room, user, "?skip")
    says(site, room, "eve", "?skip")
    wait_playing(site, room, "sim-kittens")
    says(site, room, "cy", "?skip")
    wait_playing(site, room, "sim-teapots")
    let_end(site, room)
    wait_playing(site, room, None)
    assert waiting(site, room) == []


@pytest.mark.usefixtures("key")
def test_a_hit_is_chosen_by_an_answer_to_it_also_after_a_restart(site: Site, rooms: list[str]) -> None:
    room, other, _ = rooms
    second, third = search(site, room, "bea", "paper boats")[1:]
    says_in_answer(site, room, "?set", second)
    wait_playing(site, room, "sim-harbour")
    kill_bot(site, room)
    site.control.video(room)
    says(site, room, "bea", "?set 1")
    wait_playing(site, room, "sim-lantern")
    assert "search" in says(site, other, "bea", "?set 1")
    assert plays(site, other) is None
    assert third["media"]


def says_in_answer(site: Site, room: str, text: str, message: dict[str, Any]) -> None:
    said = site.control.chat(room, text, user="dan", reply=message["id"], wait=15.0)
    assert said, f"no answer to {text}"


def test_a_queue_outlives_its_bot_and_the_parent(site: Site, room: str) -> None:
    for video in ("lantern", "harbour", "kittens"):
        says(site, room, "bea", f"?play {LINK}sim-{video}")
    wait_playing(site, room, "sim-lantern")
    kill_bot(site, room)
    site.kill_parent()
    assert len(waiting(site, room)) == 2
    let_end(site, room)
    wait_playing(site, room, "sim-harbour")
    eventually(lambda: "Harbour" in says(site, room, "eve", "?nowplaying"), "the bot has seen it")
    # It ends while there is no bot.
    before = site.control.connections()[room]
    site.sh(f"systemctl kill -s KILL {names.mesh_unit(room)}")
    site.control.video(room)
    site.control.wait(reconnected={room: before}, timeout=30)
    wait_playing(site, room, "sim-kittens")
    assert waiting(site, room) == []


@pytest.mark.usefixtures("key")
def test_a_provider_in_trouble_is_told_and_harms_no_queue(site: Site, room: str) -> None:
    says(site, room, "bea", f"?play {LINK}sim-lantern")
    says(site, room, "bea", f"?play {LINK}sim-harbour")
    wait_playing(site, room, "sim-lantern")
    site.control.option("slow_by", 20)
    for mode in ("503", "429", "no-json", "wrong-types", "huge", "slow"):
        site.control.fail("provider_search", mode)
        # One user may not search that often.
        who = f"user-{mode}"
        answers = site.control.chat(room, f"?search rooster {mode}", user=who, wait=PATIENCE, answers=2)
        assert len(answers) == 2, f"{mode}: {answers}"
        site.control.fail("provider_search", "ok")
        assert says(site, room, "ann", "?ping") == "Pong!"
    # With ids that nothing has the hits are shown all the same, and a link leads nowhere.
    for target in ("provider_search", "provider_videos"):
        site.control.fail(target, "wrong-ids")
    search(site, room, "cy", "paper boats")
    assert "no such video" in says(site, room, "cy", f"?play {LINK}sim-teapots")
    assert len(waiting(site, room)) == 1
    let_end(site, room)
    wait_playing(site, room, "sim-harbour")


@pytest.mark.usefixtures("key")
def test_searches_that_are_used_up_are_told_and_links_still_work(site: Site, room: str) -> None:
    site.control.option("provider_quota", 0)
    answers = site.control.chat(room, "?search rooster", user="dan", wait=PATIENCE, answers=2)
    assert "used up" in answers[-1]
    says(site, room, "bea", f"?play {LINK}sim-rooster")
    wait_playing(site, room, "sim-rooster")


def test_without_a_key_links_are_played_and_a_search_says_what_is_missing(site: Site, room: str) -> None:
    answers = site.control.chat(room, "?search rooster", user="dan", wait=PATIENCE, answers=2)
    assert "key" in answers[-1] or "operator" in answers[-1]
    # How long they are is not known, so the room alone tells when the next is due.
    for video in ("rooster", "lantern"):
        says(site, room, "bea", f"?play {LINK}sim-{video}")
    wait_playing(site, room, "sim-rooster")
    let_end(site, room)
    wait_playing(site, room, "sim-lantern")


def test_people_who_vote_by_hand_come_first(site: Site, room: str) -> None:
    for video in ("lantern", "harbour"):
        says(site, room, "bea", f"?play {LINK}sim-{video}")
    wait_playing(site, room, "sim-lantern")
    for user in ("cy", "dan", "eve", "ann"):
        site.control.vote(room, "sim-kittens", user=user)
    wait_playing(site, room, "sim-kittens")
    assert len(waiting(site, room)) == 1
    let_end(site, room)
    wait_playing(site, room, "sim-harbour")


def test_votes_that_are_cleared_are_given_again(site: Site, room: str) -> None:

    def votes() -> list[str]:
        return [vote["video"] for vote in site.control.mesh(room)["votes"]]

    # Here Rave goes on by itself, and no length is known without a key: so the bot votes at once for what is next.
    site.control.option("play_mode", "AUTOPLAY")
    for video in ("lantern", "harbour"):
        says(site, room, "bea", f"?play {LINK}sim-{video}")
    eventually(lambda: votes() == ["sim-harbour"], "the bot votes ahead", PATIENCE)
    site.control.clear_votes(room, user="cy")
    eventually(lambda: votes() == ["sim-harbour"], "the bot votes again", PATIENCE)
    let_end(site, room)
    wait_playing(site, room, "sim-harbour")
    assert waiting(site, room) == []


@pytest.mark.usefixtures("key")
def test_a_queue_goes_on_in_each_play_mode(site: Site, rooms: list[str]) -> None:
    for room, mode in zip(rooms, ("QUICKPLAY", "AUTOPLAY", "LEADER"), strict=True):
        site.control.option("play_mode", mode)
        site.control.leader(room, "botty")
        for user, video in (("bea", "lantern"), ("cy", "harbour"), ("bea", "kittens")):
            says(site, room, user, f"?play {LINK}sim-{video}")
        wait_playing(site, room, "sim-lantern")
        let_end(site, room)
        wait_playing(site, room, "sim-harbour")
        eventually(lambda room=room: "Harbour" in says(site, room, "eve", "?nowplaying"), "the bot has seen it")
        says(site, room, "cy", "?skip")
        wait_playing(site, room, "sim-kittens")
        assert waiting(site, room) == []


@pytest.mark.usefixtures("key")
def test_what_the_room_does_not_allow_is_told_and_the_queue_waits(site: Site, rooms: list[str]) -> None:
    room, other, _ = rooms
    says(site, other, "bea", f"?play {LINK}sim-harbour")
    wait_playing(site, other, "sim-harbour")
    site.control.option("playback_rights", "leader")
    eventually(lambda: "only vote to skip it" in says(site, other, "bea", "?skip"), "the bot has seen it")
    assert "Harbour" in says(site, other, "eve", "?nowplaying")
    assert plays(site, other) == "sim-harbour"
    site.control.leader(other, "botty")
    assert "Skipped" in says(site, other, "bea", "?skip")
    wait_playing(site, other, None)
    search(site, room, "dan", "paper boats")
    site.control.option("play_mode", "LEADER")
    assert "play mode LEADER" in says(site, room, "dan", "?set 2")
    says(site, room, "bea", f"?play {LINK}sim-lantern")
    eventually(lambda: "play mode LEADER" in says(site, room, "eve", "?queue"), "the reason is told", PATIENCE)
    assert plays(site, room) is None
    # When the leader leaves, the one who was there longest leads: the bot.
    site.control.part(room, "ann")
    assert leader(site, room) == "botty"
    wait_playing(site, room, "sim-lantern")
    assert waiting(site, room) == []


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
        eventually(lambda room=room: "Lantern" in says(site, room, "bea", "?meshinfo"), "the bot knows it")
        site.control.playback(room, "pause")
        eventually(lambda room=room: "Paused" in says(site, room, "bea", "?meshinfo"), "the bot knows that")
        assert "Leader: Ann" in says(site, room, "bea", "?meshinfo")
        for game in ("?truth PG13", "?dare"):
            assert len(says(site, room, "cy", game)) > 10
