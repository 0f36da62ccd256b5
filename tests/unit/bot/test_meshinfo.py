from __future__ import annotations

from ravesvc.room.changes import RoomState
from ravesvc.room.playback import Playback, PlayMode
from tests.unit.bot_scene import ANN, BOT, Room, Scene


def ask(scene: Scene, state: RoomState) -> list[str]:
    answers: list[str] = []

    async def body() -> None:
        scene.room.state = state
        scene.room.users = state.users
        answers.extend((await scene.answer("?meshinfo")).splitlines())

    scene.play(body)
    return answers


def test_all_that_is_known_is_told() -> None:
    playback = Playback(url="https://api/videos/youtube/x", video_url="https://yt/x", status="PAUS", position=192)
    state = RoomState(known=True, users=Room.users, leader=ANN, play_mode=PlayMode.VOTE, playback=playback)
    assert ask(Scene(names={BOT: "botty", ANN: "Ann"}), state) == [
        "Mesh: Films (11111111)",
        "• Server: ws.example",
        "• 3 users: botty, Ann, User 3",
        "• Leader: Ann",
        "• Play mode: people vote for the next video",
        "• Paused: https://yt/x, at 3:12",
    ]


def test_what_is_not_known_is_left_out() -> None:
    assert ask(Scene(), RoomState(users=Room.users))[3:] == []
    assert ask(Scene(), RoomState(known=True, users=Room.users))[3:] == ["• Nothing plays"]


async def test_the_position_is_that_of_now() -> None:
    scene = Scene()

    async with scene.running():
        time = scene.room.server_clock.now() - 60
        scene.room.state = RoomState(playback=Playback(url="u", status="PLAY", position=60, time=time))
        assert "• Playing: a video, at 2:0" in await scene.answer("?meshinfo")


def test_a_full_room_with_nasty_names_and_urls_stays_short() -> None:
    users = frozenset(range(1, 500))
    scene = Scene(names=dict.fromkeys(users, "**?leave**\n?leave " * 9))
    said = ask(scene, RoomState(users=users, leader=ANN, playback=Playback(video_url="https://**`" + "x" * 1500)))
    assert said[2].endswith(", 491 more")
    for line in said:
        assert not line.startswith("?")
        assert not set(line) & set("*`")
        assert len(line) < 500
    assert len(scene.looked_up[0]) <= 8
