"""What a worker gets at its start: settings and session, as JSON files (OpenFile= of its unit).

The parent derives both from rave.yaml and the credentials; a worker parses no YAML. What each option means stands
where it is declared: `config/worker_options.py`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

from ravesvc import names
from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.config.declaration import from_object
from ravesvc.config.worker_options import WorkerOptions

# A connection that lasts this long is stable: the failures before it are forgotten.
STABLE_AFTER_S = 60.0

# Why a worker may lack its settings, and what helps.
NOT_HANDED_OVER = (
    f"{names.SETTINGS_FILE} is missing ('systemctl restart rave-orchestrator' writes it), a drop-in has reset"
    f" OpenFile= ('systemctl cat {names.MESH_UNIT_TEMPLATE}' shows which), or it was not started as"
    f" {names.MESH_UNIT_TEMPLATE}"
)


@dataclass(frozen=True, slots=True)
class Edition:
    """Which program a worker runs, and with which settings: what an upgrade or an edit of rave.yaml changes.

    `digest` is that of the settings file, see `digest`.
    """

    version: str
    digest: str


def digest(settings: str) -> str:
    """What tells one text of the settings file from another; the keys in it can't be found by trying."""
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


class MeshSettings(WorkerOptions):
    """What a worker needs of rave.yaml.

    `connect_ports` are all that TCP may connect to, that of Rave's API and that of the proxy among them.
    `watchdog` is systemd's to know (WatchdogSec=). It is here because a running worker keeps the one of its start.
    """

    __slots__ = ()

    def to_json(self) -> str:
        """The text of the settings file."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> MeshSettings:
        """Read what `to_json` wrote; raises `RaveError` (BadData)."""
        return from_object(cls, json_fields.parse_object(text, "the settings file"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """The account's session: what a request or a socket needs of the credentials, and no more."""

    device_id: str
    ssaid: str
    user_id: int
    auth_token: str = field(repr=False)

    @property
    def peer_id(self) -> str:
        """The id of our socket participant."""
        return f"{self.user_id}_{self.device_id}"

    def to_json(self) -> str:
        """The text of the session file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Session:
        """Read what `to_json` wrote; raises `RaveError` (BadData)."""
        return cls.from_object(json_fields.parse_object(text, "the session file"))

    @classmethod
    def from_object(cls, source: Object) -> Session:
        """Typed from an object with the keys of this class."""
        return cls(
            device_id=json_fields.get_str(source, "device_id"),
            ssaid=json_fields.get_str(source, "ssaid"),
            user_id=json_fields.get_int(source, "user_id"),
            auth_token=normalise_token(json_fields.get_str(source, "auth_token")),
        )


def user_of_peer(peer: object) -> int | None:
    """The user whom a peer id ("<user id>_<device id>") names, or None if that is no user id."""
    user = json_fields.as_int(peer.partition("_")[0]) if isinstance(peer, str) and "_" in peer else None
    return user if user is not None and user > 0 else None


def normalise_token(token: str) -> str:
    """A Parse token without its `r:` prefix (also spelt `r: `), as HTTP and WebSocket headers want it.

    However often it stands there: a token that is normalised once more must stay the same.
    """
    token = token.strip()
    while token.startswith("r:"):
        token = token.removeprefix("r:").strip()
    return token
