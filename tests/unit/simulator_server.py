"""A simulator served in a thread, and raw clients for it: urllib3 and websockets, nothing of the product."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from websockets.asyncio.client import ClientConnection, connect

from ravesvc.simulator.client import Control
from ravesvc.simulator.server import Simulator
from ravesvc.simulator.state_dir import StateDir


class Served:
    """A simulator on a random port. Everything it needs to be called is here."""

    def __init__(self, state_dir: StateDir, directory: Path) -> None:
        self.state_dir = state_dir
        self.account = state_dir.account()
        self.session = self.account.session
        self.control_socket = directory / "control.sock"
        self.control = Control(self.control_socket)
        self.tls = ssl.create_default_context(cafile=str(state_dir.ca_file))
        self.tls.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
        self._started = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        assert self._started.wait(10)
        self.server: str = self.control.state()["server"]
        self._pool = urllib3.PoolManager(ssl_context=self.tls, retries=False)

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.simulator = Simulator(
            self.state_dir, self.account, host="127.0.0.1", port=0, control=self.control_socket
        )
        await self.simulator.start()
        self._started.set()
        await self._stop.wait()
        await self.simulator.stop()

    def stop(self) -> None:
        self._pool.clear()
        assert self._loop
        assert self._stop
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
        assert not self._thread.is_alive()

    # HTTP.

    def headers(self, body: bytes = b"", *, token: str = "", **changed: str | None) -> dict[str, str]:
        """The headers of a correct call; `changed` names some with _ for -, None leaves one out."""
        ts, token = str(int(time.time() * 1000)), token or self.session.auth_token
        key = self.account.identity.request_hash_key.encode()
        digest = hmac.digest(key, f"{ts}:{token}:{len(body)}".encode(), hashlib.sha256)
        headers: dict[str, str | None] = {
            "Client-Version": self.account.identity.client_version,
            "Wemesh-Api-Version": "4.0",
            "Wemesh-Platform": "android",
            "User-Agent": self.account.identity.user_agent,
            "Ssaid": self.session.ssaid,
            "Authorization": f"Bearer {token}",
            "Request-Ts": ts,
            "Request-Hash": base64.b64encode(digest).decode(),
            "Content-Type": "application/json; charset=UTF-8",
        }
        headers |= {name.replace("_", "-"): value for name, value in changed.items()}
        return {name: value for name, value in headers.items() if value is not None}

    def raw(self, method: str, url: str, body: bytes = b"", **changed: str | None) -> urllib3.BaseHTTPResponse:
        """A call with the body's very bytes; `url` may be relative to the api base."""
        url = url if url.startswith("https:") else f"https://{self.server}{url}"
        return self._pool.request(method, url, body=body or None, headers=self.headers(body, **changed), timeout=5)

    def call(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """Status and JSON of a correct call."""
        response = self.raw(method, url, b"" if body is None else json.dumps(body).encode())
        return response.status, response.json()

    def listing(self, **query: str | int) -> str:
        """The path of a listing, of invited meshes if nothing else is said."""
        return "/meshes/self?" + urlencode({"deviceId": self.session.device_id, "limit": 20, "lang": "en", **query})

    # A login.

    def mojo(self, method: str, path: str, body: Mapping[str, Any] | None = None, **changed: str) -> tuple[int, Any]:
        """A call to the magic-link service."""
        headers = {"X-Api-Key": self.account.identity.mojo_api_key, "User-Agent": "okhttp/5.1.0"} | {
            name.replace("_", "-"): value for name, value in changed.items()
        }
        return self._other(method, f"/mojo{path}", headers, body)

    def send_mail(self, email: str = "bot@example.test", **query: str) -> tuple[int, Any]:
        """Have a magic link sent."""
        asked = {"language": "en", "redirect_url": self.account.identity.mojo_redirect_url, **query}
        return self.mojo("POST", f"/users/magiclink?{urlencode(asked)}", {"email": email})

    def mail_status(self, state_id: str) -> tuple[int, Any]:
        """What has become of a magic link."""
        return self.mojo("GET", f"/users/status?state_id={state_id}")

    def parse(self, body: Mapping[str, Any], **changed: str) -> tuple[int, Any]:
        """A call to Parse."""
        identity = self.account.identity
        headers = {
            "X-Parse-Application-Id": identity.parse_application_id,
            "X-Parse-App-Build-Version": identity.app_build,
            "X-Parse-App-Display-Version": identity.client_version,
            "X-Parse-Os-Version": "9",
            "User-Agent": "Parse Android SDK API Level 28",
        } | {name.replace("_", "-"): value for name, value in changed.items()}
        return self._other("POST", "/parse/users", headers, body)

    def sign_in(self, email: str = "bot@example.test") -> dict[str, Any]:
        """All of a login up to Parse's answer."""
        state_id = self.send_mail(email)[1]["state_id"]
        self.control.confirm(email)
        proof = {"id_token": self.mail_status(state_id)[1]["oauth"]["id_token"], "id": email}
        answer: dict[str, Any] = self.parse({"authData": {"mojo": proof}})[1]
        return answer

    def log_in(self, email: str = "bot@example.test", device_id: str = "d" * 32) -> tuple[str, dict[str, Any]]:
        """All of a login: token and account."""
        user = self.sign_in(email)
        token = user["sessionToken"].removeprefix("r:")
        device = device_body(user, email, device_id)
        assert self.call_as(token, "POST", "/auth2/mojo/login", device)[0] == 200
        opening = {"adId": "a", "carrierCountry": "US", "deviceId": device_id, "lang": "en", "storeCountry": "US"}
        status, answer = self.call_as(token, "POST", "/auth/login", opening)
        assert status == 200
        return token, answer["data"]

    def call_as(self, token: str, method: str, url: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """Status and JSON of a correct call with another token."""
        content = b"" if body is None else json.dumps(body).encode()
        headers = self.headers(content, token=token)
        response = self._pool.request(
            method, f"https://{self.server}{url}", body=content or None, headers=headers, timeout=5
        )
        return response.status, response.json()

    def _other(
        self, method: str, path: str, headers: dict[str, str], body: Mapping[str, Any] | None
    ) -> tuple[int, Any]:
        content = None if body is None else json.dumps(body).encode()
        headers = headers if body is None else {"Content-Type": "application/json; charset=utf-8", **headers}
        response = self._pool.request(
            method, f"https://{self.server}{path}", body=content, headers=headers, timeout=5
        )
        return response.status, response.json()

    # WebSocket.

    def open(self, mesh: str, **changed: Any) -> connect:
        """A correct opening of a socket; `changed` replaces arguments of it."""
        query = changed.pop("query", {"roomId": mesh, "peerId": self.session.peer_id})
        headers = {"Authorization": f"Bearer {self.session.auth_token}", "API-Version": "4"}
        arguments: dict[str, Any] = {
            "ssl": self.tls,
            "subprotocols": ["protoo"],
            "additional_headers": {**headers, **changed.pop("headers", {})},
            "compression": None,
            "ping_interval": None,
            "proxy": None,
            **changed,
        }
        return connect(f"wss://{self.server}/?{urlencode(query)}", **arguments)


def device_body(user: Mapping[str, Any], email: str, device_id: str) -> dict[str, Any]:
    """What registers a device with Parse's answer."""
    return {
        "deviceId": device_id,
        "email": email,
        "lang": "en",
        "name": "somebody",
        "parseId": user["objectId"],
        "parseToken": user["sessionToken"],
        "platId": email,
    }


async def ask(ws: ClientConnection, method: str, number: int = 1, **data: Any) -> dict[str, Any]:
    """Send a request and return its answer; frames that come before it are lost."""
    await ws.send(json.dumps({"request": True, "id": number, "method": method, "data": data}))
    while True:
        frame = await receive(ws)
        if frame.get("response") and frame["id"] == number:
            return frame


async def receive(ws: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(5):
        frame: dict[str, Any] = json.loads(await ws.recv())
    return frame


async def until(ws: ClientConnection, method: str) -> dict[str, Any]:
    """The data of the next notification of this method."""
    while True:
        frame = await receive(ws)
        if frame.get("method") == method:
            data: dict[str, Any] = frame["data"]
            return data


async def state_of(ws: ClientConnection) -> dict[str, Any]:
    """The inner object of the next state message."""
    state: dict[str, Any] = json.loads((await until(ws, "stateMessage"))["message"])
    return state


async def in_thread(function: Any, *arguments: Any, **named: Any) -> Any:
    """Call something that blocks, such as a method of `Control`."""
    return await asyncio.to_thread(function, *arguments, **named)
