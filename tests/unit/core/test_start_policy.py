from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ravesvc.api.models import Mesh
from ravesvc.core.mesh_state import MeshState
from ravesvc.core.start_policy import StartPolicy


def record(mesh: str, server: str | None) -> MeshState:
    return MeshState(mesh, listed=Mesh(mesh, server, "", True, ()))


def test_a_pause_of_the_api_concerns_all_and_one_of_a_server_its_own_meshes() -> None:
    starts = StartPolicy("api.test", 0)
    records = [record("a", "one.test:443"), record("b", "two.test"), record("c", None), MeshState("d")]
    assert starts.waiting(records) == {}
    starts.pauses.ask("one.test", 60)
    assert starts.waiting(records).keys() == {"a"}
    starts.pauses.ask("api.test", 30)
    held = starts.waiting(records)
    assert held.keys() == set("abcd")
    assert held["a"].startswith("one.test asks"), "the one that lasts longer"
    assert starts.pause(records[0])[0] == pytest.approx(60, abs=1)


@pytest.mark.parametrize("end", [StartPolicy.release, StartPolicy.stable, StartPolicy.forget])
def test_a_rest_is_over_and_the_next_one_a_first(end: Callable[[StartPolicy, str], None]) -> None:
    starts = StartPolicy("api.test", 0)
    first = starts.rests.back_off("a")
    assert starts.rests.back_off("a") > first
    end(starts, "a")
    assert not starts.rests.meshes
    assert starts.rests.back_off("a") == first


@pytest.mark.parametrize(
    ("host", "seconds"),
    [("two.test", 60), ("", 60), ("one.test", 0)],
)
def test_a_claim_that_makes_no_sense_holds_up_nothing(host: str, seconds: int) -> None:
    starts = StartPolicy("api.test", 0)
    assert starts.rate_limited(record("a", "one.test:443"), host, seconds) == ""
    assert not starts.pauses.any()


@pytest.mark.parametrize("server", ["one.test:443", "https://user@nonsense/", None])
def test_a_claim_about_a_host_that_the_bot_asks_counts(server: str | None) -> None:
    starts = StartPolicy("api.test", 0)
    claimant = record("a", server)
    assert starts.rate_limited(claimant, "api.test", 60).startswith("api.test asks for a pause until ")
    assert starts.waiting([record("b", None)]).keys() == {"b"}
    assert starts.rate_limited(claimant, "api.test", 60), "words there are, even if it counts no more"


async def test_turns_come_one_after_another_at_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = [0.0, 0.02, 0.0, 0.0]

    starts = StartPolicy("api.test", 1)
    monkeypatch.setattr(starts._pace, "take", lambda: waits.pop(0))
    order: list[int] = []

    async def start(number: int) -> None:
        await starts.turn()
        order.append(number)

    await asyncio.gather(*map(start, range(3)))
    assert order == [0, 1, 2]
