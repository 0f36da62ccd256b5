from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.errors import Code, RaveError
from ravesvc.store import blocklist
from ravesvc.store.blocklist import WORDS, Block, Blocklist, Reason

MESH = "11111111-2222-4333-8444-555555555555"
OTHER = "22222222-2222-4333-8444-555555555555"
# As the reference implementation writes it.
REFERENCE = """{
  "blockedMeshes": {
    "11111111-2222-4333-8444-555555555555": {
      "meshId": "11111111-2222-4333-8444-555555555555",
      "reason": "connection_failures",
      "blockedAt": 1700000000000,
      "blockedUntil": 1700003600000
    },
    "22222222-2222-4333-8444-555555555555": {
      "meshId": "22222222-2222-4333-8444-555555555555",
      "reason": "kicked",
      "blockedAt": 1700000000000,
      "blockedUntil": null
    }
  }
}
"""
FAILED = Block(mesh=MESH, reason=Reason.CONNECTION_FAILURES, since=1700000000000, until=1700003600000)
KICKED = Block(mesh=OTHER, reason=Reason.KICKED, since=1700000000000, until=None)

BLOCKS = st.builds(
    Block,
    mesh=st.uuids().map(str),
    reason=st.sampled_from(Reason),
    since=st.integers(0, 2**53),
    until=st.none() | st.integers(0, 2**53),
    detail=st.text(),
    actor=st.text(min_size=1),
)


def block(reason: Reason, since: int = 0, until: int | None = None) -> Block:
    return Block(mesh=MESH, reason=reason, since=since, until=until)


def entry(**changes: Any) -> str:
    """A file with one entry, changed; None takes a key away."""
    values = {"reason": "kicked", "blockedAt": 1, "blockedUntil": None} | changes
    return json.dumps({"blockedMeshes": {MESH: values}})


def test_the_reference_file_is_understood() -> None:
    assert list(Blocklist.from_json(REFERENCE, "it")) == [FAILED, KICKED]


def test_the_reference_would_understand_ours() -> None:
    ours = json.loads(Blocklist([FAILED, KICKED]).to_json())
    theirs = json.loads(REFERENCE)
    for mesh, expected in theirs["blockedMeshes"].items():
        found = ours["blockedMeshes"][mesh]
        assert {key: found[key] for key in expected} == expected
        assert found.keys() - expected.keys() == {"detail", "actor"}
    assert ours.keys() == theirs.keys()


def test_the_file_is_for_people() -> None:
    text = Blocklist([Block(mesh=MESH, reason=Reason.HELD, since=1, until=None, detail="für später")]).to_json()
    assert '\n    "11111111-2222-4333-8444-555555555555": {\n      "meshId": ' in text
    assert "für später" in text
    assert text.endswith("}\n")


@hypothesis.settings(deadline=None)
@given(st.lists(BLOCKS, unique_by=lambda block: block.mesh))
def test_blocks_survive_the_file(blocks: list[Block]) -> None:
    before = Blocklist(blocks)
    assert list(Blocklist.from_json(before.to_json(), "it")) == blocks


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is not valid JSON"),
        ("[]", "it must be an object"),
        ("{}", "blockedMeshes must be an object, but is missing"),
        ('{"blockedMeshes": []}', "blockedMeshes must be an object"),
        ('{"blockedMeshes": {"x": {}}}', "'x' is not a mesh id"),
        (f'{{"blockedMeshes": {{"{MESH}": 1}}}}', f"{MESH} must be an object"),
        (entry(reason="bored"), f"the entry of {MESH} has an unknown reason"),
        (entry(reason=None), "reason must be a text"),
        (entry(blockedAt=None), "blockedAt must be an integer"),
        (entry(blockedUntil="soon"), "blockedUntil must be an integer"),
        (entry(blockedUntil=1.5), "blockedUntil must be an integer"),
        (entry(detail=1), "detail must be a text"),
        (entry(actor=1), "actor must be a text"),
    ],
)
def test_one_bad_entry_spoils_the_whole(text: str, words: str) -> None:
    with pytest.raises(RaveError, match=words):
        Blocklist.from_json(text, "it")


def test_half_of_a_surrogate_pair_does_not_keep_the_list_from_being_saved(tmp_path: Path) -> None:
    path = tmp_path / "blocklist.json"
    path.write_text(entry(detail="\ud800", actor="\ud800"))
    blocklist.save(path, blocklist.load(path))
    (found,) = blocklist.load(path)
    assert (found.detail, found.actor) == ("?", "?")


def test_a_block_is_in_force_up_to_its_last_millisecond() -> None:
    blocks = Blocklist([FAILED, KICKED])
    assert blocks.get(MESH, 1700003600000) == FAILED
    assert blocks.get(MESH, 1700003600001) is None
    assert blocks.get(OTHER, 2**60) == KICKED
    assert blocks.get("x", 0) is None
    assert blocks.in_force(1700003600000) == {MESH: FAILED, OTHER: KICKED}
    assert blocks.in_force(1700003600001) == {OTHER: KICKED}


def test_what_is_over_is_dropped_and_told() -> None:
    blocks = Blocklist([FAILED, KICKED])
    assert blocks.drop_expired(1700003600000) == []
    assert blocks.drop_expired(1700003600001) == [FAILED]
    assert list(blocks) == [KICKED]


def test_removing_tells_what_was_removed() -> None:
    blocks = Blocklist([KICKED])
    assert blocks.remove(OTHER) == KICKED
    assert blocks.remove(OTHER) is None
    assert list(blocks) == []


LESSER = sorted(set(Reason) - {Reason.KICKED, Reason.HELD})


@pytest.mark.parametrize("reason", [*LESSER, Reason.HELD])
def test_a_kick_stays_until_it_is_removed(reason: Reason) -> None:
    blocks = Blocklist([block(Reason.KICKED)])
    blocks.add(block(reason, since=5))
    assert list(blocks) == [block(Reason.KICKED)]
    blocks.remove(MESH)
    blocks.add(block(reason, since=5))
    assert list(blocks) == [block(reason, since=5)]


@pytest.mark.parametrize("reason", LESSER)
def test_a_process_that_fails_while_it_is_stopped_does_not_end_the_hold(reason: Reason) -> None:
    blocks = Blocklist([block(Reason.HELD)])
    blocks.add(block(reason, until=5))
    assert list(blocks) == [block(Reason.HELD)]
    blocks.add(block(Reason.KICKED))
    assert list(blocks) == [block(Reason.KICKED)]


@pytest.mark.parametrize("reason", Reason)
def test_any_other_block_gives_way_to_the_newest(reason: Reason) -> None:
    blocks = Blocklist([block(Reason.CRASHES, until=5)])
    blocks.add(block(reason, since=1))
    assert list(blocks) == [block(reason, since=1)]


def test_every_reason_has_words() -> None:
    assert WORDS.keys() == set(Reason)
    assert block(Reason.GONE).describe() == "the mesh is gone"
    detailed = Block(mesh=MESH, reason=Reason.CRASHES, since=0, until=None, detail="exit status 1")
    assert detailed.describe() == "its process failed too often: exit status 1"


def test_a_missing_file_is_an_empty_list(tmp_path: Path) -> None:
    assert list(blocklist.load(tmp_path / "blocklist.json")) == []


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "blocklist.json"
    blocklist.save(path, Blocklist([FAILED, KICKED]))
    assert list(blocklist.load(path)) == [FAILED, KICKED]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff", "is not valid JSON"),
        (entry(reason="bored").encode(), "unknown reason"),
        (b'{"blockedMeshes": {"x": {}}}', "not a mesh id"),
    ],
)
def test_a_file_that_can_not_be_used_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "blocklist.json"
    path.write_bytes(content)
    with pytest.raises(RaveError, match=f"{path} can't be used: .*{words}") as e:
        blocklist.load(path)
    assert e.value.code is Code.BAD_FILE
    assert e.value.hint
    assert path.read_bytes() == content


def test_a_file_that_can_not_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(RaveError, match="can't be used: Is a directory") as e:
        blocklist.load(tmp_path)
    assert e.value.code is Code.BAD_FILE


def test_a_file_that_can_not_be_written_says_why(tmp_path: Path) -> None:
    with pytest.raises(RaveError, match="can't be written: No such file or directory") as e:
        blocklist.save(tmp_path / "no" / "blocklist.json", Blocklist())
    assert e.value.code is Code.BAD_FILE
