"""The simulator's secrets: the bot's account and the client identity. Random, made once, never shipped."""

from __future__ import annotations

import json
import secrets
import uuid
from dataclasses import asdict, dataclass, field

from ravesvc.common import json_fields
from ravesvc.config.worker_options import ClientIdentity
from ravesvc.config.worker_settings import Session

# The only key that the simulated video provider accepts. It is no secret: it gives access to a made-up catalogue.
YOUTUBE_KEY = "simulator-youtube-key"
# Simulated users count up from 100000001; the bot's id is random and above all of them.
_FIRST_BOT_ID = 900_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedAccount:
    """The account with which the bot logs in, and its client identity."""

    identity: ClientIdentity
    session: Session
    email: str = field(repr=False)
    parse_id: str

    @classmethod
    def generate(cls) -> SimulatedAccount:
        """A new account with random values in the forms that the real ones have."""
        version, build = "0.0.1", "1"
        identity = ClientIdentity(
            request_hash_key=secrets.token_hex(32),
            mojo_api_key=str(uuid.uuid4()),
            parse_application_id=secrets.token_hex(20),
            parse_installation_id=str(uuid.uuid4()),
            mojo_redirect_url="https://localhost/mojoauth",
            user_agent=f"Rave/{build} ({version}) (Android 0; simulator; loopback; en)",
            client_version=version,
            app_build=build,
        )
        session = Session(
            device_id=secrets.token_hex(16),
            ssaid=secrets.token_hex(8),
            user_id=_FIRST_BOT_ID + secrets.randbelow(_FIRST_BOT_ID // 10),
            auth_token=secrets.token_hex(16),
        )
        return cls(identity=identity, session=session, email="bot@example.test", parse_id=secrets.token_hex(5))

    def to_json(self) -> str:
        """The text of account.json."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> SimulatedAccount:
        """Read what `to_json` wrote; raises `RaveError` (BadData)."""
        top = json_fields.parse_object(text, "account.json")
        identity = json_fields.get_object(top, "identity")
        return cls(
            identity=ClientIdentity(**{key: json_fields.get_str(identity, key) for key in ClientIdentity.__slots__}),
            session=Session.from_object(json_fields.get_object(top, "session")),
            email=json_fields.get_str(top, "email"),
            parse_id=json_fields.get_str(top, "parse_id"),
        )

    def credentials(self) -> str:
        """The text of a credentials.json, as the orchestrator keeps one after a login."""
        document = {
            "email": self.email,
            "deviceId": self.session.device_id,
            "ssaid": self.session.ssaid,
            "parseId": self.parse_id,
            "parseToken": self.session.auth_token,
            "authToken": self.session.auth_token,
            "userId": self.session.user_id,
            "peerId": self.session.peer_id,
        }
        return json.dumps(document, indent=2) + "\n"

    def config(self, *, server: str, ca_file: str, discovery_interval: str) -> str:
        """The text of a rave.yaml that points to this simulator; `server` is `localhost:PORT`.

        Written without a YAML library: JSON scalars and lists are YAML too.
        """
        identity = "".join(f"  {key}: {json.dumps(value)}\n" for key, value in asdict(self.identity).items())
        return (
            "# Points the bots to the simulator on this machine (rave-simulator config).\n"
            f"client_identity:\n{identity}"
            "servers:\n"
            f'  api: "https://{server}"\n'
            f'  parse: "https://{server}/parse"\n'
            f'  mojo: "https://{server}/mojo"\n'
            "tls:\n"
            f"  ca_file: {json.dumps(ca_file)}\n"
            "videos:\n"
            f'  youtube_api: "https://{server}/youtube/v3"\n'
            f'  youtube_oembed: "https://{server}/oembed"\n'
            f'  picture_hosts: ["{server}"]\n'
            f"discovery_interval: {json.dumps(discovery_interval)}\n"
            # Long enough for a server that restarts, short enough to watch what happens to one that does not.
            "connection_failure_window: 10s\n"
            'command_prefix: ["?"]\n'
            # Here one user makes all meshes.
            "max_meshes_per_user: 0\n"
        )
