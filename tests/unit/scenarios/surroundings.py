"""What both worlds have in common: Rave, the options, the clocks, and the words of bots."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ravesvc.api.models import Listing, Mesh
from ravesvc.blocklist.file import BlockFile
from ravesvc.blocklist.model import BlocklistModel
from ravesvc.common.log_fields import mesh_of
from ravesvc.common.steady_clock import Clock
from ravesvc.config import rave_yaml
from ravesvc.config.options import Config
from ravesvc.config.worker_settings import Session
from ravesvc.core import mesh_state as mesh_state_module
from ravesvc.core.start_policy import StartPolicy
from ravesvc.errors import Code, RaveError
from tests.unit.scenarios.virtual_time import VirtualTime
from tests.unit.scenarios.world import (
    API_HOST,
    BLOCK_S,
    GUEST,
    MAX_RESTARTS,
    OWN,
    POLL_S,
    RESTART_DELAY_S,
    ROUND_S,
    BotEvent,
    ChatFormLearned,
    Connected,
    ConnectionFailed,
    Disconnected,
    Kicked,
    Left,
    PauseRequested,
)

SESSION = Session(device_id="device", ssaid="ssaid", user_id=OWN, auth_token="token")
BLOCKLIST = "blocklist.json"
# Meshes that Rave tells at a time.
PAGE = 3


class Rave:
    """Rave as the service sees it; stands in the place of its client, which reads a list page by page."""

    progress = ""
    proven = True

    def __init__(self) -> None:
        self.mode = "invited"
        self.listed: list[Mesh] = []
        self.answers = True
        self.left: list[str] = []

    @property
    def scope(self) -> str:
        return f"{self.mode} meshes of user {OWN}"

    def use(self, session: Session | None) -> None:
        pass

    def list(self, meshes: Sequence[str], users: Sequence[int]) -> None:
        self.listed = [_mesh(mesh, users) for mesh in meshes]

    def invite(self, mesh: str) -> None:
        self.listed = [*self.listed, _mesh(mesh, [GUEST])]

    async def meshes(self, enough: Callable[[Sequence[Mesh]], bool]) -> Listing:
        if not self.answers:
            raise RaveError(Code.TIMEOUT, f"{API_HOST} does not answer")
        for count in range(PAGE, len(self.listed), PAGE):
            if enough(self.listed[:count]):
                return Listing(tuple(self.listed[:count]), complete=False)
        return Listing(tuple(self.listed))

    async def leave(self, mesh: str) -> None:
        self.left.append(mesh)
        self.listed = [each for each in self.listed if each.id != mesh]

    async def close(self) -> None:
        pass


def _mesh(mesh: str, users: Sequence[int]) -> Mesh:
    # Each on a server of its own.
    return Mesh(mesh, f"{mesh[:8]}:1", "A film", True, tuple(users))


def settings(directory: Path, **options: object) -> Config:
    """What rave.yaml says in a world."""
    options = {
        "servers": {"api": f"https://{API_HOST}"},
        "blocklist_persist_path": str(directory / BLOCKLIST),
        "state_path": str(directory / "state.db"),
        "credentials_path": str(directory / "credentials.json"),
        "discovery_interval": f"{ROUND_S:g}s",
        "status_poll_interval": f"{POLL_S:g}s",
        "process_restart_delay": f"{RESTART_DELAY_S:g}s",
        "max_process_restarts": MAX_RESTARTS,
        "blocklist_duration": f"{BLOCK_S:g}s",
        "max_processes": 0,
        "starts_per_minute": 0,
        **options,
    }
    # JSON is YAML.
    found, problems = rave_yaml.read(json.dumps(options), "rave.yaml")
    assert found, problems
    return found


def virtual_clock() -> Clock:
    return Clock(wall=VirtualTime.time, boottime=VirtualTime.monotonic, boot="this")


def use_virtual_time(monkeypatch: pytest.MonkeyPatch, *modules: Any) -> None:
    """Have modules tell the time of the running loop."""
    for module in (mesh_state_module, *modules):
        monkeypatch.setattr(module, "time", VirtualTime)


def keep_virtual_time(starts: StartPolicy) -> None:
    """Have the clocks of a policy be those of the running loop; it was made just now."""
    starts.outages._clock, starts.outages._wall = VirtualTime.monotonic, VirtualTime.time
    starts.pauses._clock, starts.pauses._wall = VirtualTime.monotonic, VirtualTime.time
    starts.rests._now = VirtualTime.monotonic
    starts._pace._clock = VirtualTime.monotonic
    if starts._pace._bucket:
        starts._pace._bucket._at = VirtualTime.monotonic()


def fill_disk(monkeypatch: pytest.MonkeyPatch, is_full: Callable[[], bool]) -> None:
    """Let the blocklist be saved only while the disk is not full."""
    save = BlockFile.save

    def save_if_possible(file: BlockFile, blocklist: BlocklistModel) -> None:
        if is_full():
            raise RaveError(Code.BAD_FILE, "it can't be written: No space left on device")
        save(file, blocklist)

    monkeypatch.setattr(BlockFile, "save", save_if_possible)


def fail_steps(starts: StartPolicy, failure: Callable[[], Exception | None]) -> None:
    """Let the step that starts a bot raise something."""
    turn = starts.turn

    async def fail_or_turn() -> None:
        if error := failure():
            raise error
        await turn()

    starts.turn = fail_or_turn  # type: ignore[method-assign]


@dataclass
class BotState:
    """How a bot is, by what it has said."""

    connected_since: float | None = None
    attempts: int = 0
    error: str = ""
    chat_form: str = ""

    def says(self, event: BotEvent) -> None:
        match event:
            case Connected():
                self.connected_since, self.attempts, self.error = VirtualTime.monotonic(), 0, ""
            case Disconnected(reason) | Left(reason):
                self.connected_since, self.error = None, reason
            case Kicked():
                self.connected_since = None
            case ConnectionFailed(attempts, error):
                self.attempts, self.error = attempts, error
            case ChatFormLearned(form):
                self.chat_form = form

    @property
    def lasted(self) -> float:
        """Seconds for which it has been connected."""
        return 0.0 if self.connected_since is None else VirtualTime.monotonic() - self.connected_since


def signal_of(event: BotEvent) -> tuple[str, list[Any]] | None:
    """How a bot says it; None for what it tells only when it is asked."""
    match event:
        case Connected():
            return "Connected", []
        case Disconnected(reason):
            return "Disconnected", [reason]
        case ConnectionFailed(attempts, error):
            return "ConnectionFailed", [attempts, error]
        case PauseRequested(host, seconds):
            return "RateLimited", [host, seconds]
        case Left(reason):
            return "Left", [reason]
        case Kicked():
            return "Kicked", []
    return None


class Logged(logging.Handler):
    """What is logged as an error, with the mesh that it is about."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.errors.append((mesh_of(record), record.getMessage()))


def saved(directory: Path) -> dict[str, Any]:
    """What the file of the blocklist says."""
    path = directory / BLOCKLIST
    return dict(json.loads(path.read_text())) if path.exists() else {}


def blocked_on_disk(directory: Path) -> dict[str, str]:
    return {mesh: entry["reason"] for mesh, entry in saved(directory).get("blockedMeshes", {}).items()}


def failures_on_disk(directory: Path, mesh: str) -> int:
    return int(saved(directory).get("meshes", {}).get(mesh, {}).get("failures", 0))
