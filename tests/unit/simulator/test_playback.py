"""What the simulator plays, and when: the rules of the play modes, on a clock of the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ravesvc.errors import Code, RaveError
from ravesvc.simulator import catalogue
from ravesvc.simulator.account import SimulatedAccount
from ravesvc.simulator.catalogue import CATALOGUE
from ravesvc.simulator.mesh import SimulatedMesh
from ravesvc.simulator.party import Party
from ravesvc.simulator.world import World


class Timer:
    def __init__(self, at: float, action: Callable[[], None]) -> None:
        self.at = at
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Scene:
    """A mesh with ann (who leads), bea and cy, in which nothing plays at first, and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []
        self.world = World(SimulatedAccount.generate(), lambda: self.now)
        self.world.server = "localhost:1"
        self.party = Party(self.world, self._later)
        self.world.options.set("playback", "none")
        self.mesh = self.world.create(title="Film")
        self.world.join(self.mesh, [self.world.user(name) for name in ("bea", "cy")])

    def _later(self, seconds: float, action: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.now + seconds, action))
        return self.timers[-1]

    def run(self, seconds: float) -> None:
        """Let time pass, timers included."""
        end = self.now + seconds
        while due := [t for t in self.timers if not t.cancelled and t.at <= end]:
            timer = min(due, key=lambda t: t.at)
            self.timers.remove(timer)
            self.now = max(self.now, timer.at)
            timer.action()
        self.now = end

    def vote(self, name: str, video: str) -> None:
        clip = self.world.clips.from_catalogue(CATALOGUE[f"sim-{video}"], self.world.server)
        self.party.vote(self.mesh, self.world.user(name), clip, clip.url(self.world.server))

    def judge(self, name: str, opinion: str | None) -> None:
        self.party.set_opinion(self.mesh, self.world.user(name), opinion)

    @property
    def plays(self) -> str | None:
        playing = self.mesh.playback.current
        return playing and playing.clip.provider_id.removeprefix("sim-")

    @property
    def shown(self) -> dict[str, Any]:
        return self.mesh.to_json(self.now)

    @property
    def votes(self) -> dict[str, list[str]]:
        """The handles of those who want each video, the winner first."""
        return {
            vote["video"].removeprefix("sim-"): [self.world.users[number].handle for number in vote["users"]]
            for vote in self.shown["votes"]
        }


@pytest.fixture
def scene() -> Scene:
    return Scene()


def mode(scene: Scene, name: str) -> None:
    scene.world.options.set("play_mode", name)


def test_a_vote_while_nothing_plays_starts_at_once(scene: Scene) -> None:
    scene.vote("bea", "lantern")
    assert (scene.plays, scene.votes) == ("lantern", {})
    assert scene.shown["plays"]["originator"] == scene.world.user("bea").id
    first = scene.shown["plays"]["instance"]
    scene.run(212)
    scene.vote("bea", "lantern")
    assert scene.shown["plays"]["instance"] != first


def test_votes_are_collected_and_more_than_half_decide(scene: Scene) -> None:
    scene.vote("ann", "lantern")
    scene.vote("bea", "harbour")
    scene.vote("cy", "teapots")
    assert (scene.plays, scene.votes) == ("lantern", {"harbour": ["bea"], "teapots": ["cy"]})
    scene.vote("cy", "harbour")
    assert (scene.plays, scene.votes) == ("harbour", {})


def test_at_the_end_the_most_voted_starts_and_of_equals_the_oldest(scene: Scene) -> None:
    scene.world.join(scene.mesh, [scene.world.user(name) for name in ("dan", "eve")])
    scene.vote("ann", "lantern")
    for name, video in (("bea", "harbour"), ("cy", "teapots"), ("dan", "teapots"), ("eve", "kittens")):
        scene.run(1)
        scene.vote(name, video)
    scene.run(212)
    assert (scene.plays, scene.votes) == ("teapots", {"harbour": ["bea"], "kittens": ["eve"]})
    scene.run(241)
    assert (scene.plays, scene.votes) == ("harbour", {"kittens": ["eve"]})


def test_without_a_vote_the_mesh_waits(scene: Scene) -> None:
    scene.vote("ann", "balloon")
    scene.run(7.9)
    assert scene.plays == "balloon"
    scene.run(0.2)
    assert (scene.plays, scene.shown["plays"]) == (None, None)


def test_who_leaves_takes_the_vote_along(scene: Scene) -> None:
    scene.vote("ann", "lantern")
    scene.vote("bea", "harbour")
    scene.judge("bea", "SKIP")
    scene.world.leave(scene.mesh, [scene.world.user("bea")])
    assert (scene.votes, scene.shown["skips"]) == ({}, [])


def test_quickplay_plays_what_is_voted_for(scene: Scene) -> None:
    mode(scene, "QUICKPLAY")
    scene.vote("ann", "lantern")
    scene.vote("bea", "balloon")
    assert scene.plays == "balloon"
    scene.run(9)
    assert scene.plays is None


def test_autoplay_goes_on_with_a_video_of_its_own(scene: Scene) -> None:
    mode(scene, "AUTOPLAY")
    scene.vote("ann", "balloon")
    scene.vote("bea", "harbour")
    scene.run(8)
    assert scene.plays == "harbour"
    scene.run(187)
    assert scene.plays == "teapots"
    assert scene.shown["plays"]["originator"] is None


def test_in_leader_mode_only_the_leader_decides(scene: Scene) -> None:
    mode(scene, "LEADER")
    bea = scene.world.user("bea")
    for forbidden in (
        lambda: scene.vote("bea", "lantern"),
        lambda: scene.party.set_playback(scene.mesh, bea, status="PAUS"),
        lambda: scene.party.end_video(scene.mesh, bea),
        lambda: scene.party.clear_votes(scene.mesh, bea),
    ):
        with pytest.raises(RaveError, match="only the leader may") as raised:
            forbidden()
        assert raised.value.code is Code.FORBIDDEN
    scene.vote("ann", "lantern")
    scene.vote("ann", "harbour")
    assert scene.plays == "harbour"


def test_outside_of_leader_mode_rights_are_a_switch(scene: Scene) -> None:
    scene.vote("bea", "lantern")
    scene.party.set_playback(scene.mesh, scene.world.user("bea"), status="PAUS")
    scene.world.options.set("playback_rights", "leader")
    with pytest.raises(RaveError, match="only the leader may"):
        scene.party.end_video(scene.mesh, scene.world.user("bea"))
    scene.vote("bea", "harbour")
    scene.party.end_video(scene.mesh, scene.world.user("ann"))
    assert scene.plays == "harbour"


def test_a_position_runs_pauses_moves_and_ends(scene: Scene) -> None:
    ann = scene.world.user("ann")
    scene.vote("ann", "balloon")
    scene.run(2)
    assert scene.shown["plays"]["position"] == 2
    scene.party.set_playback(scene.mesh, ann, status="PAUS")
    scene.run(100)
    assert (scene.plays, scene.shown["plays"]["position"], scene.shown["plays"]["ends_at"]) == ("balloon", 2, None)
    scene.party.set_playback(scene.mesh, ann, position=5)
    scene.run(100)
    assert scene.shown["plays"]["position"] == 5
    scene.party.set_playback(scene.mesh, ann, status="PLAY")
    assert scene.shown["plays"]["ends_at"] == scene.now + 3
    scene.run(2.5)
    assert scene.plays == "balloon"
    scene.run(0.5)
    assert scene.plays is None
    scene.vote("ann", "balloon")
    scene.party.set_playback(scene.mesh, ann, position=9000)
    scene.run(0)
    assert scene.plays is None


def test_videos_run_as_fast_as_is_switched_on(scene: Scene) -> None:
    scene.world.options.set("playback_speed", "10")
    scene.vote("ann", "lantern")
    scene.run(21)
    assert scene.shown["plays"]["position"] == 210
    scene.run(0.2)
    assert scene.plays is None


@pytest.mark.parametrize("video", ["glacier"])
def test_a_video_on_the_air_has_no_end(scene: Scene, video: str) -> None:
    scene.vote("ann", video)
    scene.run(100_000)
    assert (scene.plays, scene.shown["plays"]["seconds"]) == (video, None)


def test_a_timer_that_comes_early_ends_nothing(scene: Scene) -> None:
    scene.vote("ann", "balloon")
    (timer,) = scene.timers
    scene.timers.clear()
    scene.now += 7.999
    timer.action()
    assert scene.plays == "balloon"
    scene.run(0.002)
    assert scene.plays is None


def test_the_video_of_a_mesh_that_is_gone_does_not_end(scene: Scene) -> None:
    scene.vote("ann", "balloon")
    scene.world.remove(scene.mesh)
    seq = scene.world.log.seq
    scene.run(10)
    assert scene.world.log.seq == seq


def test_after_closing_nothing_ends(scene: Scene) -> None:
    scene.vote("ann", "balloon")
    scene.party.close()
    scene.run(10)
    assert scene.plays == "balloon"


def test_cleared_votes_are_listed_until_the_next_video(scene: Scene) -> None:
    scene.vote("ann", "balloon")
    scene.vote("bea", "harbour")
    scene.party.clear_votes(scene.mesh, scene.world.user("cy"))
    assert (scene.votes, len(scene.shown["cleared"])) == ({}, 1)
    scene.vote("bea", "harbour")
    scene.run(8)
    assert (scene.plays, scene.shown["cleared"]) == ("harbour", [])


def test_opinions_are_about_what_plays(scene: Scene) -> None:
    with pytest.raises(RaveError, match="nothing plays"):
        scene.judge("ann", "LIKE")
    scene.vote("ann", "balloon")
    scene.judge("ann", "LIKE")
    scene.judge("bea", "LIKE")
    scene.judge("bea", "SKIP")
    ann, bea = scene.world.user("ann").id, scene.world.user("bea").id
    assert (scene.shown["likes"], scene.shown["skips"]) == ([ann], [bea])
    scene.judge("ann", None)
    assert scene.shown["likes"] == []
    scene.run(8)
    assert scene.shown["skips"] == []


def test_whether_enough_of_skip_is_obeyed_is_a_switch(scene: Scene) -> None:
    scene.vote("ann", "lantern")
    scene.judge("ann", "SKIP")
    scene.judge("bea", "SKIP")
    assert scene.plays == "lantern"
    scene.world.options.set("skips", "obeyed")
    scene.judge("cy", "SKIP")
    assert scene.plays is None


def test_the_opening_video_has_no_end_and_is_as_switched(scene: Scene) -> None:
    scene.world.options.set("playback", "PAUS")
    assert (scene.shown["plays"]["title"], scene.shown["plays"]["status"]) == ("Film", "PAUS")
    scene.vote("bea", "lantern")
    assert (scene.plays, scene.votes) == ("", {"lantern": ["bea"]})
    scene.party.set_playback(scene.mesh, scene.world.user("ann"), status="PLAY")
    scene.run(100_000)
    assert scene.shown["plays"]["status"] == "PLAY"
    scene.party.end_video(scene.mesh, scene.world.user("ann"))
    assert scene.plays == "lantern"


def test_a_video_can_wait_for_the_first_vote(scene: Scene) -> None:
    scene.world.options.set("playback", "WAIT")
    scene.vote("bea", "lantern")
    assert scene.plays == "lantern"


def test_strangers_have_no_say(scene: Scene) -> None:
    with pytest.raises(RaveError, match="not in this mesh"):
        scene.vote("zoe", "lantern")


def test_leadership_is_given_and_falls_back_to_the_earliest(scene: Scene) -> None:
    ann, bea, cy = (scene.world.user(name) for name in ("ann", "bea", "cy"))
    scene.party.transfer_leadership(scene.mesh, ann, cy)
    assert leader(scene.mesh) == "cy"
    with pytest.raises(RaveError, match="only the leader may"):
        scene.party.transfer_leadership(scene.mesh, ann, ann)
    with pytest.raises(RaveError, match="zoe is not in the mesh"):
        scene.party.transfer_leadership(scene.mesh, cy, scene.world.user("zoe"))
    scene.world.leave(scene.mesh, [cy])
    assert leader(scene.mesh) == "ann"
    scene.world.join(scene.mesh, [cy])
    scene.world.leave(scene.mesh, [ann])
    assert leader(scene.mesh) == "bea"
    scene.party.transfer_leadership(scene.mesh, bea, cy)
    scene.world.kick(scene.mesh, cy)
    assert leader(scene.mesh) == "bea"


def leader(mesh: SimulatedMesh) -> str:
    return next(user.handle for user in mesh.users() if user.peer_id == mesh.leader)


def test_the_leader_takes_and_gives_voices(scene: Scene) -> None:
    ann, bea = scene.world.user("ann"), scene.world.user("bea")
    scene.party.mute(scene.mesh, ann, bea)
    assert scene.shown["muted"] == [bea.id]
    with pytest.raises(RaveError, match="only the leader may"):
        scene.party.unmute(scene.mesh, bea, bea)
    scene.party.unmute(scene.mesh, ann, bea)
    assert scene.shown["muted"] == []


# The catalogue.


@pytest.mark.parametrize(
    ("video", "duration"),
    [("balloon", "PT8S"), ("lantern", "PT3M32S"), ("volcano", "PT1H2M3S"), ("compass", "P1DT2H"), ("glacier", "P0D")],
)
def test_durations_are_written_as_the_provider_does(video: str, duration: str) -> None:
    assert CATALOGUE[f"sim-{video}"].duration == duration


def test_the_server_goes_round_in_what_all_may_watch() -> None:
    seen = [catalogue.next_entry("")]
    while (entry := catalogue.next_entry(seen[-1].id)) != seen[0]:
        seen.append(entry)
    assert {CATALOGUE[f"sim-{name}"] for name in ("glacier", "orchard", "penguin")} == set(CATALOGUE.values()) - set(
        seen
    )
    assert all(len(video) == 11 for video in CATALOGUE)
