from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from ravesvc.common import plugin_files
from ravesvc.core import canary as module
from ravesvc.core.canary import Canary
from ravesvc.core.mesh_state import MeshState, WorkerState
from ravesvc.core.run_state import RunEnd, RunPhase, RunState
from ravesvc.core.trial import Phase, Trial, TrialFile
from ravesvc.errors import Code, RaveError
from tests.unit.conftest import until

A, B, C = "aaaaaaaa", "bbbbbbbb", "cccccccc"
UP = RunState(phase=RunPhase.RUNNING, process=7)
# Long enough that no test sees its end.
LONG_S = 3600.0


class Scene:
    """Three connected bots, a directory of plugins with one file, and a new version of it.

    Attributes:
        read: the meshes whose bots have read their plugins, in order, each with what it was to try; "all" for all.
        errors: what the bot of a mesh reports when it reads its plugins.
        unreachable: the meshes whose bots can't be told.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "commands.d"
        self.new = self.directory / plugin_files.CANARY_DIRECTORY
        self.new.mkdir(parents=True)
        self.write("old")
        self.try_next("new")
        self.state = directory / "canary.json"
        self.records: dict[str, MeshState] = {}
        for mesh in (A, B, C):
            record = self.records[mesh] = MeshState(mesh, run=UP)
            record.worker.connect(1000.0)
        self.read: list[tuple[str, list[str]]] = []
        self.errors: dict[str, str] = {}
        self.unreachable: set[str] = set()
        self.canary = self.another()

    def another(self) -> Canary:
        """The canary of the next process of the service."""
        return Canary(
            self.directory, TrialFile(self.state), self.records, reread=self._reread, reread_all=self._reread_all
        )

    def write(self, text: str) -> None:
        (self.directory / "greet.py").write_text(text)

    def try_next(self, text: str) -> None:
        (self.new / "greet.py").write_text(text)

    def move(self) -> None:
        """As root does it when it has gone well."""
        (self.new / "greet.py").replace(self.directory / "greet.py")

    def tried(self, mesh: str) -> list[str]:
        return [name for name, _ in self.canary.versions(mesh)]

    def reports(self, mesh: str, *errors: str) -> None:
        """A bot has these errors now."""
        self.records[mesh].worker.command_errors = errors
        self.canary.mesh_changed(self.records[mesh])

    def is_now(self, mesh: str, run: RunState) -> None:
        self.records[mesh].run = run
        self.canary.mesh_changed(self.records[mesh])

    async def ends(self) -> Trial:
        await until(lambda: self.canary.trial.phase is not Phase.TRYING and not self.canary._lock.locked())
        return self.canary.trial

    async def _reread(self, mesh: str) -> None:
        if mesh in self.unreachable:
            raise RaveError(Code.NOT_RUNNING, "it does not answer")
        self.read.append((mesh, self.tried(mesh)))
        if self.tried(mesh) and mesh in self.errors:
            self.reports(mesh, self.errors[mesh])
        elif not self.tried(mesh):
            self.reports(mesh)

    async def _reread_all(self) -> None:
        self.read.append(("all", self.tried(C)))


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(module, "MIN_HOLD_S", 0.0)
    return Scene(tmp_path)


async def test_a_new_version_is_tried_in_its_meshes_alone(scene: Scene) -> None:
    await scene.canary.begin([A, B], LONG_S)
    assert sorted(scene.read) == [(A, ["greet.py"]), (B, ["greet.py"])]
    assert scene.tried(C) == []
    ((name, digest),) = scene.canary.versions(A)
    assert (name, digest) == ("greet.py", plugin_files.digest(b"new"))
    await scene.canary.close()


async def test_what_has_not_failed_is_in_force_everywhere_until_root_has_moved_it(scene: Scene) -> None:
    await scene.canary.begin([A], 0.0)
    assert (await scene.ends()).phase is Phase.IN_FORCE
    assert scene.read[1:] == [("all", ["greet.py"])]
    await scene.canary.settle()
    assert scene.tried(C) == ["greet.py"], "root has not moved it"
    scene.move()
    await scene.canary.settle()
    assert scene.canary.trial == Trial()
    assert scene.tried(C) == []


async def test_a_file_that_the_operator_has_changed_since_counts_more(scene: Scene) -> None:
    await scene.canary.begin([A], 0.0)
    await scene.ends()
    scene.write("newer")
    await scene.canary.settle()
    assert scene.canary.trial == Trial()


async def test_the_first_error_of_what_is_tried_ends_it(scene: Scene) -> None:
    await scene.canary.begin([A, B], LONG_S)
    other = f"{scene.directory}/other.py: the command x failed: KeyError"
    scene.reports(A, other)
    scene.reports(C, f"{scene.directory}/greet.py: the command greet failed: KeyError")
    assert scene.canary.trial.phase is Phase.TRYING
    error = f"{scene.directory}/greet.py: the command greet failed: LookupError"
    scene.reports(B, other, error)
    ended = await scene.ends()
    assert (ended.phase, ended.reason) == (Phase.FAILED, f"{error}, in mesh {B}")
    assert sorted(scene.read[2:]) == [(A, []), (B, [])], "each has read the former version"


async def test_of_a_file_that_others_import_any_new_error_ends_it(scene: Scene) -> None:
    (scene.new / "_words.py").write_text("new")
    known = f"{scene.directory}/other.py: the command x failed: KeyError"
    scene.reports(C, known)
    await scene.canary.begin([A], LONG_S)
    scene.reports(A, known)
    assert scene.canary.trial.phase is Phase.TRYING
    scene.reports(A, known, f"{scene.directory}/poll.py: the command poll failed: KeyError")
    assert "the command poll failed" in (await scene.ends()).reason


@pytest.mark.parametrize("name", ["greet.py", "canary/greet.py"])
async def test_a_file_that_does_not_load_is_an_error_of_the_request(scene: Scene, name: str) -> None:
    scene.errors[B] = f"{scene.directory}/{name}, line 1: SyntaxError: invalid syntax"
    with pytest.raises(RaveError, match=r"the canary has failed: .*greet\.py, line 1: SyntaxError.*, in mesh bbbb"):
        await scene.canary.begin([A, B], LONG_S)
    assert scene.canary.trial.phase is Phase.FAILED
    assert (scene.tried(A), scene.tried(B)) == ([], [])


async def test_a_bot_that_can_not_be_told_ends_it(scene: Scene) -> None:
    scene.unreachable.add(B)
    with pytest.raises(RaveError, match="it does not answer"):
        await scene.canary.begin([A, B], LONG_S)
    assert scene.canary.trial.phase is Phase.FAILED
    assert scene.read[-1] == (A, [])


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (RunState(phase=RunPhase.WAITING, restarts=1, last_exit="killed by SIGSEGV"), "killed by SIGSEGV"),
        (RunState(phase=RunPhase.ENDED, end=RunEnd(gave_up=True)), "it has crashed"),
    ],
)
async def test_a_bot_that_crashes_ends_it(scene: Scene, run: RunState, reason: str) -> None:
    await scene.canary.begin([A, B], LONG_S)
    scene.is_now(A, run)
    assert (await scene.ends()).reason == f"its bot has ended ({reason}), in mesh {A}"


async def test_a_bot_that_does_not_answer_ends_it(scene: Scene) -> None:
    await scene.canary.begin([A], LONG_S)
    scene.records[A].worker.healthy = False
    scene.canary.mesh_changed(scene.records[A])
    assert (await scene.ends()).reason == f"its bot does not answer, in mesh {A}"


async def test_a_bot_that_is_started_anew_by_an_operator_goes_on_with_it(scene: Scene) -> None:
    await scene.canary.begin([A], LONG_S)
    scene.records[A].worker = WorkerState()
    for run in (RunState(phase=RunPhase.STOPPING), RunState(), RunState(phase=RunPhase.STARTING), UP):
        scene.is_now(A, run)
    assert scene.canary.trial.phase is Phase.TRYING
    assert scene.tried(A) == ["greet.py"]
    await scene.canary.close()


async def test_without_a_bot_in_its_room_nothing_has_proven_itself(scene: Scene) -> None:
    await scene.canary.begin([A], 0.0)
    scene.records[A].worker.disconnect("kicked")
    ended = await scene.ends()
    assert (ended.phase, scene.tried(C)) == (Phase.FAILED, [])
    assert scene.read[1:] == [(A, [])]


@pytest.mark.parametrize("hold_s", [0.0, LONG_S])
async def test_an_operator_withdraws_it(scene: Scene, hold_s: float) -> None:
    await scene.canary.begin([A], hold_s)
    if not hold_s:
        await scene.ends()
    await scene.canary.withdraw()
    assert scene.canary.trial == Trial()
    assert scene.read[-1] == ((A if hold_s else "all"), [])
    with pytest.raises(RaveError, match="no plugin is tried now"):
        await scene.canary.withdraw()


async def test_there_is_one_at_a_time(scene: Scene) -> None:
    await scene.canary.begin([A], LONG_S)
    with pytest.raises(RaveError, match=r"greet\.py is tried already"):
        await scene.canary.begin([B], LONG_S)
    await scene.canary.withdraw()
    await scene.canary.begin([B], 0.0)
    await scene.ends()
    with pytest.raises(RaveError, match="not in their place yet"):
        await scene.canary.begin([C], LONG_S)


@pytest.mark.parametrize(
    ("meshes", "hold_s", "why"),
    [
        ([], LONG_S, "for 1 to 64 meshes"),
        ([A] * 65, LONG_S, "for 1 to 64 meshes"),
        ([A], -1.0, "from .* to 1d"),
        ([A], 86_401.0, "from .* to 1d"),
        (["unknown"], LONG_S, "the bot of mesh unknown is not in its room"),
    ],
)
async def test_what_can_not_be_tried(scene: Scene, meshes: list[str], hold_s: float, why: str) -> None:
    with pytest.raises(RaveError, match=why):
        await scene.canary.begin(meshes, hold_s)
    assert (scene.canary.trial, scene.read) == (Trial(), [])


async def test_without_a_file_that_is_new_there_is_nothing_to_try(scene: Scene) -> None:
    scene.try_next("old")
    with pytest.raises(RaveError, match=r"there is nothing to try in .*canary"):
        await scene.canary.begin([A], LONG_S)
    (scene.new / "greet.py").unlink()
    scene.new.rmdir()
    with pytest.raises(RaveError, match=r"there is nothing to try in .*canary"):
        await scene.canary.begin([A], LONG_S)


async def test_there_are_so_many_files_at_most_and_none_is_read_of_more(scene: Scene) -> None:
    for number in range(64):
        (scene.new / f"{number}.py").mkdir()
    with pytest.raises(RaveError, match="there are more than 64 files"):
        await scene.canary.begin([A], LONG_S)


async def test_the_next_process_of_the_service_goes_on_with_it(scene: Scene) -> None:
    begun = await scene.canary.begin([A], LONG_S)
    await scene.canary.close()
    scene.canary = scene.another()
    scene.canary.load()
    assert scene.canary.trial == begun
    shown: list[Trial] = []
    scene.canary.changed.connect(lambda _: shown.append(scene.canary.trial))
    scene.canary.resume()
    assert shown == [begun]
    scene.reports(A, f"{scene.directory}/greet.py: a handler of load failed: KeyError")
    assert (await scene.ends()).phase is Phase.FAILED
    again = scene.another()
    again.load()
    assert again.trial == scene.canary.trial


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"phase": "trying"}', '{"phase": "odd"}'])
async def test_a_file_of_the_canary_that_makes_no_sense_is_none(
    scene: Scene, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    scene.state.write_text(content)
    scene.canary.load()
    assert scene.canary.trial == Trial()
    assert f"{scene.state} can't be used" in caplog.text


async def test_nothing_is_tried_that_the_next_process_would_not_know_of(scene: Scene) -> None:
    scene.state.mkdir()
    with pytest.raises(RaveError, match=r"canary\.json can't be written"):
        await scene.canary.begin([A], LONG_S)
    assert (scene.canary.trial, scene.read) == (Trial(), [])


async def test_an_error_in_the_middle_of_the_beginning_is_not_lost(scene: Scene) -> None:
    """A bot reports its error while the others still load: it counts when all of them have loaded."""
    scene.errors[A] = f"{scene.directory}/greet.py: a handler of load failed: KeyError"
    task = asyncio.create_task(scene.canary.begin([A, B], LONG_S))
    with pytest.raises(RaveError, match="a handler of load failed"):
        await task
    assert json.loads(scene.state.read_text())["phase"] == "failed"


async def test_an_error_of_the_former_version_is_none_of_the_second_canary(scene: Scene) -> None:
    """The bot reports the error of the former version once more before it has read the new one."""
    await scene.canary.begin([A], 0.0)
    await scene.ends()
    scene.move()
    await scene.canary.settle()
    scene.try_next("mended")
    scene.reports(A, f"{scene.directory}/greet.py: the command greet failed: KeyError")
    reread = scene.canary._reread

    async def reported_before(mesh: str) -> None:
        scene.canary.mesh_changed(scene.records[mesh])
        scene.records[mesh].worker.command_errors = ()
        await reread(mesh)

    scene.canary._reread = reported_before
    await scene.canary.begin([A], LONG_S)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (scene.canary.trial.phase, scene.canary.trial.reason) == (Phase.TRYING, "")
    await scene.canary.close()


async def test_the_next_process_knows_which_errors_are_of_all_meshes(scene: Scene) -> None:
    (scene.new / "_words.py").write_text("new")
    known = f"{scene.directory}/other.py: the command x failed: KeyError"
    for mesh in (A, C):
        scene.reports(mesh, known)
    await scene.canary.begin([A], LONG_S)
    await scene.canary.close()
    for mesh in (A, C):
        scene.records[mesh].worker.command_errors = (known,)
    scene.canary = scene.another()
    scene.canary.load()
    scene.canary.resume()
    await asyncio.sleep(0)
    assert (scene.canary.trial.phase, scene.canary._ending) == (Phase.TRYING, None)
    await scene.canary.close()


async def test_a_file_whose_name_no_message_can_have_is_not_tried(scene: Scene) -> None:
    (scene.new / os.fsdecode(b"gr\xfcet.py")).write_text("new")
    with pytest.raises(RaveError, match="its name has characters that can't be shown"):
        await scene.canary.begin([A], LONG_S)
    assert scene.canary.trial == Trial()
