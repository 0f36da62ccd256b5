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
from ravesvc.simulator.home import Home
from ravesvc.simulator.server import Simulator


class Served:
    """A simulator on a random port. Everything it needs to be called is here."""

    def __init__(self, home: Home, directory: Path) -> None:
        self.home = home
        self.account = home.account()
        self.session = self.account.session
        self.control_socket = directory / "control.sock"
        self.control = Control(self.control_socket)
        self.tls = ssl.create_default_context(cafile=str(home.ca_file))
        self.tls.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
        self._started = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main(), debug=True))
        self._thread.start()
        assert self._started.wait(10)
        self.server: str = self.control.state()["server"]
        self._pool = urllib3.PoolManager(ssl_context=self.tls, retries=False)

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.simulator = Simulator(self.home, self.account, host="127.0.0.1", port=0, control=self.control_socket)
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

    def headers(self, body: bytes = b"", **changed: str | None) -> dict[str, str]:
        """The headers of a correct call; `changed` names some with _ for -, None leaves one out."""
        ts, token = str(int(time.time() * 1000)), self.session.auth_token
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
