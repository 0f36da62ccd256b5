"""Without a sandbox the probes have to succeed: one that can't says nothing where it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ravesvc.hostile import probes

# A container that the tests run in may forbid the others.
EVERYWHERE = {
    "kill", "killpg", "pidfd_send_signal", "F_SETOWN", "F_SETOWN_EX", "F_SETSIG", "FIOSETOWN", "SIOCSPGRP", "prlimit",
    "setpriority", "sched_setaffinity", "abstract socket", "flock", "fork", "exec", "listen", "open files",
    "other ports", "TCP Fast Open", "SOCK_SEQPACKET", "near addresses", "unshare", "close_range", "clone",
}  # fmt: skip


@pytest.fixture
def sibling() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "infinity"]) as process:
        yield process
        process.kill()


@pytest.mark.process
def test_unconfined_each_attempt_succeeds_and_harms_nothing(sibling: subprocess.Popen[bytes]) -> None:
    # Not with -m ravesvc.hostile, which gives up at its start what a bot gives up.
    code = f"import json; from ravesvc.hostile import probes; print(json.dumps(probes.attempt_all({sibling.pid})))"
    command = [sys.executable, "-I", "-c", code]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert list(answer) == list(probes.PROBES)
    assert not {name: answer[name] for name in EVERYWHERE if not str(answer[name]).startswith("it can ")}
    assert sibling.poll() is None


def test_a_sibling_that_is_gone_proves_nothing() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert probes.attempt("kill", process.pid) == "it could not be tried: No such process"


def test_a_call_that_fails_by_another_reason_proves_nothing(
    sibling: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(_sibling: int) -> str:
        raise OSError(24, "Too many open files")

    monkeypatch.setitem(probes.PROBES, "listen", run_out)
    assert probes.attempt("listen", sibling.pid) == "it could not be tried: Too many open files"


def test_what_is_forbidden_is_held(sibling: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    def be_refused(_sibling: int) -> str:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setitem(probes.PROBES, "listen", be_refused)
    assert probes.attempt("listen", sibling.pid) is None
