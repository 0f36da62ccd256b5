"""New versions of plugins that are tried in a few meshes, on the bus beside the manager."""

from __future__ import annotations

from typing import ClassVar

from ravesvc import names
from ravesvc.bus import Call, Interface, method
from ravesvc.core.canary import Canary
from ravesvc.core.trial import Phase
from ravesvc.names import PolkitAction
from ravesvc.orchestrator.dbus.polkit import AccessCheck


class CanaryObject(Interface):
    """New versions of plugins that are tried in a few meshes first, at /org/ravesvc/Rave1 of org.ravesvc.Rave1.

    Every property changes with a signal. Timestamps are microseconds of CLOCK_REALTIME, 0 for none.

    Properties:
        State: none, trying, in-force (in all meshes, until root moves the files) or failed.
        Files: What is tried, or was: the name of each file, the digest of its new version, and that of the former.
        Meshes: The ids of the meshes in which it is tried, or was.
        Began: When that began.
        Ends: When all meshes get it, unless it fails.
        Reason: Why it has failed, in words.

    Signals:
        Finished: Nothing is tried any more; with the State and the Reason.
    """

    interface = names.CANARY_INTERFACE
    properties: ClassVar = {
        "State": "s",
        "Files": "a(sss)",
        "Meshes": "as",
        "Began": "t",
        "Ends": "t",
        "Reason": "s",
    }
    signals: ClassVar = {"Finished": {"state": "s", "reason": "s"}}

    def __init__(self, access: AccessCheck, canary: Canary) -> None:
        super().__init__(access)
        self._canary = canary
        self._state = Phase.NONE
        canary.changed.connect(lambda _: self.show())
        self.show()

    @method(takes={"meshes": "as", "hold_usec": "t"}, action=PolkitAction.OPERATE)
    async def try_(self, call: Call, meshes: list[str], hold_usec: int) -> None:
        """Have some meshes use the versions in /etc/rave/commands.d/canary; returns when they do.

        If nothing fails for so many microseconds all meshes get them. At the first failure of a command, a handler
        or a bot nothing is tried any more, and State is failed.

        Errors: BadFile (there is nothing to try, it can't be read, or it has failed by now), Busy, InvalidArgument,
        NotRunning (a bot is not in its room).
        """
        await self._canary.begin([names.mesh_id(mesh) for mesh in dict.fromkeys(meshes)], hold_usec / 1_000_000)

    @method(action=PolkitAction.OPERATE)
    async def withdraw(self, call: Call) -> None:
        """Have all meshes use the former versions again. Errors: InvalidArgument (nothing is tried)."""
        await self._canary.withdraw()

    def show(self) -> None:
        """Update the properties."""
        trial = self._canary.trial
        if self._state is Phase.TRYING is not trial.phase:
            self.emit("Finished", trial.phase.value, trial.reason)
        self._state = trial.phase
        self.set(
            State=trial.phase.value,
            Files=[[file.name, file.digest, file.former] for file in trial.files],
            Meshes=sorted(trial.meshes),
            Began=int(trial.began * 1_000_000),
            Ends=int(trial.ends * 1_000_000),
            Reason=trial.reason,
        )
