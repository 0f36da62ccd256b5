"""Pictures for the chat: leave to send one, the server that takes it, and where it can be seen afterwards.

That server is another one than Rave's own, so that a token or a signature in what it gets is a leak.
"""

from __future__ import annotations

import secrets
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.common.text import count
from ravesvc.errors import Code, RaveError
from ravesvc.simulator.http_endpoint import Handler, HttpEndpoint, RestCall
from ravesvc.simulator.payloads import Content, Payload
from ravesvc.simulator.pictures import KINDS
from ravesvc.simulator.request_checks import Checks, PublicChecks
from ravesvc.simulator.rest import visible_mesh
from ravesvc.simulator.world import World

_MAX_SLOTS = 200
_MAX_PICTURES = 10
_SLOT_LIFETIME_S = 900.0


@dataclass(slots=True)
class UploadSlot:
    """The permission to upload one picture of this type until `expires_at` (epoch seconds)."""

    name: str
    mime: str
    signature: str
    expires_at: float
    content: bytes | None = None


class UploadEndpoints:
    """The routes and what they answer."""

    def __init__(self, world: World, endpoint: HttpEndpoint, checks: Checks) -> None:
        self._world = world
        self._endpoint = endpoint
        self._checks = checks
        self._slots: OrderedDict[str, UploadSlot] = OrderedDict()

    def routes(self) -> list[web.RouteDef]:
        """The routes; what is named first can be made to fail (`fault_options.FAULT_TARGETS`)."""
        public = PublicChecks()
        calls: list[tuple[str, str, str, Checks, Handler]] = [
            ("images", "POST", "/meshes/{mesh}/images/upload", self._checks, self._create_slots),
            ("upload", "PUT", "/uploads/{name}", public, self._upload),
            ("picture", "GET", "/pictures/{name}", public, self._download),
        ]
        return [
            self._endpoint.route(target, verb, path, checks, handler) for target, verb, path, checks, handler in calls
        ]

    def _create_slots(self, call: RestCall) -> dict[str, Any]:
        visible_mesh(self._world, call)
        requested = json_fields.get_list(call.body, "media")
        if not 1 <= len(requested) <= _MAX_PICTURES:
            raise RaveError(Code.BAD_DATA, f"media holds {count(len(requested), 'entry')}, not 1 to {_MAX_PICTURES}")
        return {"data": [self._create_slot(json_fields.as_object(entry, "an entry of media")) for entry in requested]}

    def _create_slot(self, requested: Object) -> dict[str, Any]:
        index, mime = json_fields.get_int(requested, "index"), json_fields.get_str(requested, "mime")
        json_fields.get_bool(requested, "isExplicit")
        if mime not in KINDS:
            raise RaveError(Code.BAD_DATA, f"{mime[:40]!r} is no kind of picture")
        name = f"{uuid.uuid4()}.{mime.partition('/')[2]}"
        slot = UploadSlot(name, mime, secrets.token_hex(16), self._world.clock() + _SLOT_LIFETIME_S)
        self._slots[name] = slot
        while len(self._slots) > _MAX_SLOTS:
            self._slots.popitem(last=False)
        base = f"https://{self._world.server}"
        return {
            "index": index,
            "mime": mime,
            "fileName": name,
            "expiresAt": datetime.fromtimestamp(slot.expires_at, UTC).isoformat(),
            "uploadUrl": f"{base}/uploads/{name}?signature={slot.signature}",
            "postingUrl": f"{base}/pictures/{name}",
        }

    def _upload(self, call: RestCall) -> Payload:
        slot = self._slots.get(call.path["name"])
        if slot is None or call.query.get("signature") != slot.signature:
            raise RaveError(Code.BAD_DATA, "the URL is none that was handed out")
        if slot.expires_at < self._world.clock():
            raise RaveError(Code.FORBIDDEN, "the URL has expired")
        if call.mime != slot.mime:
            raise RaveError(Code.BAD_DATA, f"Content-Type is not {slot.mime}, which was asked for")
        if len(call.content) > self._world.options.upload_limit:
            raise RaveError(Code.TOO_LARGE, "too large")
        if not KINDS[slot.mime](call.content):
            raise RaveError(Code.BAD_DATA, f"the bytes are not {slot.mime}")
        slot.content = call.content
        self._world.log.record("uploaded", name=slot.name, mime=slot.mime, size=len(call.content))
        return {}

    def _download(self, call: RestCall) -> Payload:
        slot = self._slots.get(call.path["name"])
        if slot is None or slot.content is None:
            raise RaveError(Code.NOT_FOUND, "no such picture")
        return Content(slot.mime, slot.content)
