"""A canary: new versions of plugins run in a few meshes first, and in all when they have not failed for a while.

The operator puts the new versions into a directory of their own. What they are is noted when the canary begins, by
the digest of each. A bot asks which it is to try whenever it reads plugins. So one that is restarted meanwhile has
what its mesh is to have, and a file that is changed meanwhile runs nowhere.

Scenario: a new version ends the process of its bot. The runner reports that at once, and the canary fails. When the
process is started again some seconds later, and asks, there is nothing to try any more.

Scenario: the service is restarted, or is away when the time is over. The next process has the canary from a file, and
goes on with it. Bots that run keep what they have.

When the new versions are in force in all meshes, they still are where the operator has put them: the service can't
write there. Until root moves them into the place of the former ones, bots are told to use them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ravesvc.common import plugin_files, timespan
from ravesvc.common.plugin_files import FileVersion
from ravesvc.common.signal import Signal
from ravesvc.common.text import count
from ravesvc.core.mesh_state import MeshState
from ravesvc.core.run_state import RunPhase
from ravesvc.core.trial import Phase, Trial, TrialFile, TriedFile
from ravesvc.errors import Code, RaveError

log = logging.getLogger(__name__)

MIN_HOLD_S, MAX_HOLD_S = 10.0, 86_400.0
MAX_MESHES = 64
# A bot can't have many more: each is executed in each of them.
_MAX_FILES = 64


class Canary:
    """One canary at a time.

    Args:
        directory: of the plugins in force; that of the new versions is in it.
        file: keeps the canary for the next process.
        records: of the meshes, by id.
        reread: has the bot of a mesh read its plugins again; raises `RaveError` if it could not.
        reread_all: has all bots do so.
        now: seconds since the epoch.

    Attributes:
        trial: what is tried, or was.
        changed: emitted when it is another.
    """

    def __init__(
        self,
        directory: Path,
        file: TrialFile,
        records: Mapping[str, MeshState],
        *,
        reread: Callable[[str], Awaitable[None]],
        reread_all: Callable[[], Awaitable[None]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.trial = Trial()
        self.changed: Signal[None] = Signal("changes of the canary")
        self._directory = directory
        self._file = file
        self._records = records
        self._reread = reread
        self._reread_all = reread_all
        self._now = now
        # One change at a time.
        self._lock = asyncio.Lock()
        # What bots had said of plugins before it began.
        self._known: set[str] = set()
        # What is on its way to the end: the time that is left, or a failure.
        self._waiting: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def load(self) -> None:
        """Take over the canary of an earlier process. It blocks."""
        self.trial = self._file.load()

    def resume(self) -> None:
        """Go on with it: the records have what bots have answered by now."""
        self.changed.emit(None)
        if self.trial.phase is Phase.TRYING:
            # What was known in its meshes before it began is forgotten; what others say as well is none of it.
            others = self._records.keys() - self.trial.meshes
            self._known = {error for mesh in others for error in self._records[mesh].worker.command_errors}
            self._watch()

    async def close(self) -> None:
        """End nothing, and go on with nothing: the next process will."""
        for task in (self._waiting, self._ending):
            if task:
                task.cancel()
                await asyncio.wait([task])

    def versions(self, mesh: str) -> list[FileVersion]:
        """What the bot of a mesh is to try."""
        trial = self.trial
        is_meant = trial.phase is Phase.IN_FORCE or (trial.phase is Phase.TRYING and mesh in trial.meshes)
        return [FileVersion(file.name, file.digest) for file in trial.files] if is_meant else []

    async def begin(self, meshes: Sequence[str], hold_s: float) -> Trial:
        """Try what is in the directory of new versions in these meshes, for so many seconds.

        Returns when their bots have loaded it. Raises `RaveError`: InvalidArgument, Busy (there is one already),
        NotRunning (a bot is not in its mesh), BadFile (there is nothing to try, it can't be read, or it has failed by
        now), or what has kept a bot from loading it.
        """
        if not 0 < len(meshes) <= MAX_MESHES:
            raise RaveError(Code.INVALID_ARGUMENT, f"a canary is for 1 to {MAX_MESHES} meshes")
        if not MIN_HOLD_S <= hold_s <= MAX_HOLD_S:
            least, most = map(timespan.written, (MIN_HOLD_S, MAX_HOLD_S))
            raise RaveError(Code.INVALID_ARGUMENT, f"a canary lasts from {least} to {most}")
        async with self._lock:
            self._require_none()
            for mesh in meshes:
                self._require_bot(mesh)
            files = await asyncio.to_thread(self._find)
            now = self._now()
            # That of the canary before. With it old errors of a bot would count before it has read the new version.
            self._waiting = None
            self.trial = Trial(Phase.TRYING, files, frozenset(meshes), now, now + hold_s)
            self._known = {error for record in self._records.values() for error in record.worker.command_errors}
            try:
                await asyncio.to_thread(self._file.keep, self.trial)
            except RaveError:
                self.trial = Trial()
                raise
            self.changed.emit(None)
            names, where = _names(self.trial), count(len(meshes), "mesh")
            log.info("Trying %s in %s for %s", names, where, timespan.written(hold_s))
            try:
                await asyncio.gather(*map(self._reread, self.trial.meshes))
            except RaveError as error:
                await self._fail(f"a bot has not loaded it: {error.message}")
                raise
            # What the bots have to say of the files they have said by now.
            for mesh in meshes:
                if why := self._failure(mesh):
                    await self._fail(f"{why}, in mesh {mesh}")
                    raise RaveError(Code.BAD_FILE, f"the canary has failed: {self.trial.reason}")
            self._watch()
            return self.trial

    async def withdraw(self) -> None:
        """Have all meshes use the former versions. Raises `RaveError`: InvalidArgument if nothing is tried."""
        async with self._lock:
            if self.trial.phase not in (Phase.TRYING, Phase.IN_FORCE):
                raise RaveError(Code.INVALID_ARGUMENT, "no plugin is tried now")
            log.info("An operator has withdrawn %s", _names(self.trial))
            await self._end(Phase.NONE, "")

    async def settle(self) -> None:
        """Bots are about to read plugins again. If root has moved the new versions, the canary is over."""
        async with self._lock:
            if self.trial.phase is not Phase.IN_FORCE:
                return
            found = await asyncio.to_thread(self._digests)
            if all(found[file.name] == file.digest for file in self.trial.files):
                log.info("The new versions of %s are in their place", _names(self.trial))
            elif any(found[file.name] not in (file.digest, file.former) for file in self.trial.files):
                # The newer word of the operator.
                log.warning("Files were changed meanwhile: the canary's %s no longer count", _names(self.trial))
            else:
                return
            self.trial = Trial()
            await self._keep()
            self.changed.emit(None)

    def mesh_changed(self, record: MeshState) -> None:
        """Look whether what is tried has failed in a mesh."""
        trying = self.trial.phase is Phase.TRYING and record.mesh in self.trial.meshes
        # Before it waits for its end, `begin` looks itself.
        if trying and self._waiting and not self._ending and (why := self._failure(record.mesh)):
            self._ending = self._start(self._fail_later(f"{why}, in mesh {record.mesh}"))

    def _require_none(self) -> None:
        if self.trial.phase is Phase.TRYING:
            hint = "wait, or ravectl plugin withdraw"
            raise RaveError(Code.BUSY, f"{_names(self.trial)} is tried already", hint=hint)
        if self.trial.phase is Phase.IN_FORCE:
            text = f"the new versions of {_names(self.trial)} are not in their place yet"
            raise RaveError(Code.BUSY, text, hint="ravectl refresh, as root, or ravectl plugin withdraw")

    def _require_bot(self, mesh: str) -> None:
        record = self._records.get(mesh)
        if record is None or not record.worker.connected:
            raise RaveError(Code.NOT_RUNNING, f"the bot of mesh {mesh} is not in its room", mesh=mesh)

    def _find(self) -> tuple[TriedFile, ...]:
        """What there is to try. Raises `RaveError` (BadFile)."""
        new = self._directory / plugin_files.CANARY_DIRECTORY
        found = []
        try:
            paths = plugin_files.paths(new) if new.is_dir() else []
            # Before any of them is read.
            if len(paths) > _MAX_FILES:
                raise RaveError(Code.BAD_FILE, f"there are more than {_MAX_FILES} files in {new}")
            for path in paths:
                try:
                    _require_printable(path.name)
                    version = plugin_files.described(path)
                except (OSError, RaveError) as error:
                    raise RaveError(Code.BAD_FILE, f"{path}: {plugin_files.failure(error)}") from error
                found.append(TriedFile(*version, self._digest(version.name)))
        except OSError as error:
            raise RaveError(Code.BAD_FILE, f"{new}: {plugin_files.failure(error)}") from error
        found = [file for file in found if file.digest != file.former]
        if not found:
            raise RaveError(Code.BAD_FILE, f"there is nothing to try in {new}", hint="put the new version there")
        return tuple(found)

    def _digests(self) -> dict[str, str]:
        return {file.name: self._digest(file.name) for file in self.trial.files}

    def _digest(self, name: str) -> str:
        """That of a file in force; empty if there is none that can be read."""
        try:
            return plugin_files.described(self._directory / name).digest
        except (OSError, RaveError):
            return ""

    def _watch(self) -> None:
        self._ending = None
        self._waiting = self._start(self._spread())
        for mesh in self.trial.meshes:
            if mesh in self._records:
                self.mesh_changed(self._records[mesh])

    def _failure(self, mesh: str) -> str:
        """What has failed in a mesh, in words; empty if nothing has."""
        record = self._records.get(mesh)
        if record is None:
            return ""
        run = record.run
        if run.phase is RunPhase.WAITING or (run.end and run.end.gave_up):
            return f"its bot has ended ({run.last_exit or 'it has crashed'})"
        if run.phase is RunPhase.RUNNING and not record.worker.healthy:
            return "its bot does not answer"
        return next((error for error in record.worker.command_errors if self._is_of_trial(error)), "")

    def _is_of_trial(self, error: str) -> bool:
        """Whether an error of a bot is about what is tried."""
        if any(file.name.startswith(plugin_files.HELPER_PREFIX) for file in self.trial.files):
            # Any plugin may import it. What others have said before, and where nothing is tried, is about none of it.
            return error not in self._known
        directories = self._directory, self._directory / plugin_files.CANARY_DIRECTORY
        return error.startswith(tuple(f"{where / file.name}" for file in self.trial.files for where in directories))

    async def _spread(self) -> None:
        await asyncio.sleep(self.trial.ends - self._now())
        async with self._lock:
            if self.trial.phase is not Phase.TRYING or self._ending:
                return
            connected = [mesh for mesh in self.trial.meshes if self._is_connected(mesh)]
            if not connected:
                await self._fail("no bot that tries it is in its room any more")
                return
            names, where = _names(self.trial), count(len(connected), "mesh")
            log.info("%s has not failed in %s: all meshes get it now", names, where)
            self.trial = replace(self.trial, phase=Phase.IN_FORCE)
            await self._keep()
            await self._reread_all()
            self.changed.emit(None)

    def _is_connected(self, mesh: str) -> bool:
        record = self._records.get(mesh)
        return record is not None and record.worker.connected

    async def _fail_later(self, why: str) -> None:
        async with self._lock:
            if self.trial.phase is Phase.TRYING:
                await self._fail(why)

    async def _fail(self, why: str) -> None:
        log.warning("The canary has failed, and %s is withdrawn: %s", _names(self.trial), why)
        await self._end(Phase.FAILED, why)

    async def _end(self, phase: Phase, why: str) -> None:
        """Nothing is tried any more: have the bots that do so read the former versions."""
        were_all = self.trial.phase is Phase.IN_FORCE
        meshes = self.trial.meshes
        self.trial = replace(self.trial, phase=phase, reason=why) if why else Trial()
        waiting, self._waiting = self._waiting, None
        if waiting and waiting is not asyncio.current_task():
            waiting.cancel()
        await self._keep()
        if were_all:
            await self._reread_all()
        else:
            # One that does not answer has another process soon, which asks by itself.
            await asyncio.gather(*(self._reread_if_possible(mesh) for mesh in meshes))
        self.changed.emit(None)

    async def _reread_if_possible(self, mesh: str) -> None:
        with contextlib.suppress(RaveError):
            await self._reread(mesh)

    async def _keep(self) -> None:
        try:
            await asyncio.to_thread(self._file.keep, self.trial)
        except RaveError as error:
            log.warning("After a restart of the service the canary is another: %s", error)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(_log_fault)
        return task


def _require_printable(name: str) -> None:
    # The bus can't carry a name that is no UTF-8, and a terminal should not show any other such.
    if not name.isprintable():
        raise RaveError(Code.BAD_FILE, "its name has characters that can't be shown", hint="give it another")


def _names(trial: Trial) -> str:
    return ", ".join(file.name for file in trial.files)


def _log_fault(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("The canary has failed by a fault of the service", exc_info=error)
