"""Logging in by magic link: the calls to the magic-link service and to Parse, and those that register a device."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.errors import Code, RaveError
from ravesvc.simulator import serializers
from ravesvc.simulator.account import SimulatedAccount
from ravesvc.simulator.http_endpoint import HttpEndpoint, RestCall
from ravesvc.simulator.mailbox import Mail
from ravesvc.simulator.request_checks import Checks, MojoChecks, ParseChecks
from ravesvc.simulator.world import World

_LANGUAGES = ("en", "ru", "de", "fr", "es", "it", "pt", "ar", "pl", "nl", "uk")
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
_DEVICE = re.compile(r"[0-9a-f]{32}")
_PREFIX = "r:"


class LoginEndpoints:
    """The routes of a login and what they answer."""

    def __init__(self, world: World, endpoint: HttpEndpoint, checks: Checks, account: SimulatedAccount) -> None:
        self._world = world
        self._endpoint = endpoint
        self._checks = checks
        self._identity = account.identity
        self._parse_ids = {world.bot.id: account.parse_id}

    def routes(self) -> list[web.RouteDef]:
        """The routes of all three servers, in the order of a login."""
        mojo, parse, api = MojoChecks(self._identity), ParseChecks(self._identity), self._checks
        route = self._endpoint.route
        return [
            route("magiclink", "POST", "/mojo/users/magiclink", mojo, self._magic_link),
            route("status", "GET", "/mojo/users/status", mojo, self._status),
            route("parse", "POST", "/parse/users", parse, self._parse),
            route("auth2", "POST", "/auth2/mojo/login", api, self._register),
            route("auth", "POST", "/auth/login", api, self._account),
            route("tokens", "POST", "/users/self/tokens", api, self._push_token),
        ]

    # The magic-link service.

    def _magic_link(self, call: RestCall) -> dict[str, Any]:
        if json_fields.get_str(call.query, "language") not in _LANGUAGES:
            raise RaveError(Code.BAD_DATA, f"language must be one of: {', '.join(_LANGUAGES)}")
        _require_value(call.query, "redirect_url", self._identity.mojo_redirect_url)
        email = json_fields.get_str(call.body, "email")
        if not _ADDRESS.fullmatch(email):
            raise RaveError(Code.WRONG_ADDRESS, "not an e-mail address")
        return {"state_id": self._world.mailbox.send(email).state_id}

    def _status(self, call: RestCall) -> dict[str, Any]:
        mail = self._world.mailbox.poll(json_fields.get_str(call.query, "state_id"))
        if not mail.followed:
            return {"authenticated": False}
        return {
            "authenticated": True,
            "is_second_factor_login": False,
            "oauth": self._oauth_proof(mail),
            "user": {
                "created_at": _time(mail.sent_at),
                "updated_at": _time(self._world.clock()),
                "issuer": "https://localhost",
                "user_id": secrets.token_hex(12),
                "identifier": mail.email,
                "email": mail.email,
            },
        }

    def _oauth_proof(self, mail: Mail) -> dict[str, Any]:
        proof = {
            "access_token": secrets.token_urlsafe(32),
            "refresh_token": secrets.token_urlsafe(32),
            "expires_in": "3600",
            "token_type": "Bearer",
        }
        option = self._world.options.id_token
        first, mail.proof_sent = not mail.proof_sent, True
        if option == "missing" or (option == "late" and first):
            return proof
        return {**proof, "id_token": mail.id_token}

    # Parse.

    def _parse(self, call: RestCall) -> dict[str, Any]:
        proof = json_fields.get_object(json_fields.get_object(call.body, "authData"), "mojo")
        email = self._world.mailbox.email_of(json_fields.get_str(proof, "id_token"))
        if email is None or json_fields.get_str(proof, "id") != email:
            self._world.log.violation("POST /parse/users", "id_token was not given out for this address")
            raise RaveError(Code.FORBIDDEN, "the proof is none")
        user, token = self._world.open_session(email)
        return {
            "objectId": self._parse_id(user.id),
            "sessionToken": f"{_PREFIX}{token}",
            "createdAt": _time(self._world.clock()),
            "username": secrets.token_hex(12),
        }

    def _parse_id(self, user_id: int) -> str:
        return self._parse_ids.setdefault(user_id, secrets.token_hex(5))

    # Rave's own server.

    def _register(self, call: RestCall) -> dict[str, Any]:
        device_id = json_fields.get_str(call.body, "deviceId")
        if not _DEVICE.fullmatch(device_id):
            raise RaveError(Code.BAD_DATA, "deviceId must be 32 hex digits")
        email = json_fields.get_str(call.body, "email")
        owner = self._world.owner(email)
        if owner is None or owner.id != call.user.id:
            raise RaveError(Code.BAD_DATA, "email is not that of the session")
        _require_value(call.body, "platId", email)
        _require_value(call.body, "parseId", self._parse_id(call.user.id))
        _require_value(call.body, "parseToken", f"{_PREFIX}{call.token}")
        for key in ("lang", "name"):
            json_fields.get_str(call.body, key)
        known = self._world.register_device(call.token, device_id)
        return {"data": {"isValid": True, "newUser": not known, "suggestedHandles": [] if known else ["botty2"]}}

    def _account(self, call: RestCall) -> dict[str, Any]:
        _require_value(call.body, "deviceId", call.user.device_id)
        for key in ("adId", "carrierCountry", "lang", "storeCountry"):
            if not json_fields.get_str(call.body, key):
                raise RaveError(Code.BAD_DATA, f"{key} is empty")
        return {"data": serializers.account_object(call.user, self._world.options)}

    def _push_token(self, call: RestCall) -> dict[str, Any]:
        _require_value(call.body, "deviceId", call.user.device_id)
        _require_value(call.body, "platform", "android")
        json_fields.get_str(call.body, "token")
        return {"success": True}


def _require_value(source: Object, key: str, wanted: str) -> None:
    """Raise `RaveError` (BadData) for another value. The text has neither value, because either may be a secret."""
    if json_fields.get_str(source, key) != wanted:
        raise RaveError(Code.BAD_DATA, f"{key} is not as it should be")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
