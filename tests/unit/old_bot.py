"""A directory as the Node.js bot leaves it: two-space indented, every field of its own, and none of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FAILED = "11111111-2222-4333-8444-555555555555"
KICKED = "22222222-2222-4333-8444-555555555555"
TOKEN = "0123456789abcdef0123456789abcdef"
PASSWORD = "hush4711"

# Milliseconds since the epoch.
BLOCKED_AT = 1_700_000_000_000
HOUR = 3_600_000

CREDENTIALS = {
    "email": "bot@example.test",
    "deviceId": "d" * 32,
    "ssaid": "5" * 16,
    "parseId": "AbCdEf1234",
    "parseToken": f"r:{TOKEN}",
    "authToken": f"r: {TOKEN}",
    "userId": 900000001,
    "peerId": f"900000001_{'d' * 32}",
}
DATABASE = {
    "uri": f"mongodb://bot:{PASSWORD}@localhost:27017/rave-bot",
    "options": {"maxPoolSize": 10, "minPoolSize": 2, "serverSelectionTimeoutMS": 5000, "socketTimeoutMS": 45000},
}


def entry(mesh: str, reason: str, until: int | None) -> dict[str, Any]:
    return {"meshId": mesh, "reason": reason, "blockedAt": BLOCKED_AT, "blockedUntil": until}


def blocklist(until: int) -> dict[str, Any]:
    """One mesh that could not be reached, blocked until then, and one that has kicked the bot."""
    entries = [entry(FAILED, "connection_failures", until), entry(KICKED, "kicked", None)]
    return {"blockedMeshes": {each["meshId"]: each for each in entries}}


def write(directory: Path, name: str, document: object) -> Path:
    """Write one of its files; a text or bytes as they are."""
    path = directory / "config" / name
    path.parent.mkdir(exist_ok=True)
    if isinstance(document, bytes):
        path.write_bytes(document)
    else:
        path.write_text(document if isinstance(document, str) else json.dumps(document, indent=2))
    return path


# The source of one, in the manner of that bot: who it claims to be are constants, the options are arguments.
HASH_KEY = "0123456789abcdef0123456789abcdef"
SOURCE = {
    "package.json": '{"name": "rave-bot", "scripts": {"start": "tsx examples/multi-mesh-bot.ts"}}',
    ".env": "# Of this machine.\nexport MOJO_KEY='from-the-environment'\r\n",
    "src/config.ts": f"""
        export const API = {{
            hashSecret: "{HASH_KEY}",   // not "ffffffffffffffffffffffffffffffff"
            userAgent: "Rave/2149 (8.2.9) (Android 9; SM-G960F; samsung star; en)",
        }};
        const PARSE_APP: string = 'an-application';
        """,
    "src/api/client.ts": """
        const hash = crypto.createHmac("sha256", API.hashSecret).update(message).digest("base64");
        const parse = { "X-Parse-Application-Id": PARSE_APP, "Content-Type": "application/json" };
        const mojo = { "X-Api-Key": process.env.MOJO_KEY || "the-default-of-all" };
        const link = `?redirect_url=${encodeURIComponent("https://rave.example.test/mojoauth")}`;
        """,
    "src/process/manager.ts": """
        export interface ProcessManagerConfig { commandPrefix: string | string[]; debug: boolean }
        this.config = { discoveryInterval: 60, maxProcesses: Infinity, blocklistDuration: 3600000, ...config };
        """,
    "examples/multi-mesh-bot.ts": """
        const manager = new ProcessManager({
            deviceId, peerId, authToken,
            commandPrefix: ["!", "bot "],
            debug: false,
            /* discoveryInterval: 5, */
            discoveryInterval: 90,
            blocklistDuration: 2 * 60 * 60 * 1000, // two hours
            meshMode: 'all',
        });
        """,
}


def write_source(directory: Path, name: str = "", text: str = "") -> None:
    """Write one file of its source, or all that it has."""
    for path, content in ({name: text} if name else SOURCE).items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
