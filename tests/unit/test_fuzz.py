"""Every input that once failed is dealt with, and the fuzzer finds what it is for."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from ravesvc.errors import Code, RaveError
from tests.fuzz import mutations, runner
from tests.fuzz.runner import BrokenError, Target, attempt

# Made when they are imported, by a program.
NEEDS_PROCESS = {"completion"}
TARGETS = [
    pytest.param(name, marks=pytest.mark.process) if name in NEEDS_PROCESS else name for name in runner.names()
]


@pytest.mark.parametrize("name", TARGETS)
def test_corpus(name: str) -> None:
    target = runner.load(name)
    accepted = {entry: attempt(target, data) for entry, data in runner.corpus(name).items()}
    # Mutations of what is refused anyway would test little.
    assert any(accepted.values()), accepted


def _refuse(_data: bytes) -> None:
    raise RaveError(Code.BAD_DATA, "no")


def _stumble(data: bytes) -> None:
    if b"$(id)" in data:
        raise KeyError("id")


def _be_slow(_data: bytes) -> None:
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass


def _hang(_data: bytes) -> None:
    while True:
        try:
            time.sleep(60)
        except Exception:  # noqa: BLE001 - as what is tested may do
            continue


def test_what_is_refused_is_no_failure() -> None:
    assert not attempt(Target(_refuse), b"")
    assert attempt(Target(lambda _data: None), b"")


def test_another_exception_is_one() -> None:
    with pytest.raises(BrokenError, match="KeyError"):
        attempt(Target(_stumble), b"$(id)")


def test_so_is_what_takes_too_long() -> None:
    with pytest.raises(BrokenError, match="processor time"):
        attempt(Target(_be_slow, max_cpu_s=0.01), b"")


def test_so_is_what_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "HANG_S", 0.05)
    with pytest.raises(BrokenError, match="more than"):
        attempt(Target(_hang), b"")


def test_so_is_what_takes_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter((100.0, 100.0 + runner.MAX_GROWTH_MB + 1))
    monkeypatch.setattr(runner, "_largest_mb", lambda: next(sizes))
    with pytest.raises(BrokenError, match="memory"):
        attempt(Target(lambda _data: None), b"")


def test_a_failing_input_is_saved_and_can_be_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FAILURES", tmp_path)
    monkeypatch.setattr(runner, "load", lambda _name: Target(_stumble))
    monkeypatch.setattr(runner.resource, "setrlimit", lambda *_limit: None)
    report = runner.fuzz("chat_text", seconds=60, seed=1)
    (saved,) = (tmp_path / "chat_text").iterdir()
    assert report.failed
    assert b"$(id)" in saved.read_bytes()
    assert f"-m tests.fuzz chat_text --replay {saved}" in report.text
    assert runner.replay("chat_text", saved).failed
    assert runner.fuzz("chat_text", seconds=60, seed=1).text == report.text


def test_mutations_are_many_bounded_and_the_same_for_a_seed() -> None:
    entries = [b'{"a": [1, {"b": null}], "c": "text"}', b"no JSON"]

    def made() -> list[bytes]:
        rng = random.Random(7)
        return [mutations.mutated(rng, entries) for _ in range(500)]

    inputs = made()
    assert inputs == made()
    assert len(set(inputs)) > 300
    assert max(map(len, inputs)) <= mutations.MAX_BYTES
