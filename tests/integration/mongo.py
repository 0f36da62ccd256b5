"""A MongoDB server as mongod.service in a machine: the program of the development environment's wheel."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path
from typing import Any

from tests.integration.conftest import Site, eventually

DATABASE_FILE = "/etc/rave/database.json"
_PROGRAM = Path(sysconfig.get_path("purelib")) / "fiftyone" / "db" / "bin" / "mongod"
_URI = "mongodb://127.0.0.1:27017/rave-bot"

_UNIT = """\
[Unit]
Description=MongoDB of the tests

[Service]
ExecStart=/opt/mongod --dbpath /var/lib/mongodb --bind_ip 127.0.0.1 --nounixsocket --wiredTigerCacheSizeGB 0.25 \
--wiredTigerEngineConfigString log=(file_max=4MB,prealloc=false)
StateDirectory=mongodb
TimeoutStopSec=20s
"""

# Runs in the machine: reads {"collection": [documents]} to insert, prints all documents, dates as {"$date": text}.
_SHELL = """
import json, sys
from bson import json_util
from pymongo import MongoClient
with MongoClient(sys.argv[1], serverSelectionTimeoutMS=500) as client:
    database = client.get_default_database()
    for name, documents in json_util.loads(sys.stdin.read()).items():
        database[name].insert_many(documents)
    print(json_util.dumps({name: list(database[name].find()) for name in database.list_collection_names()}))
"""

# The same for {"collection": document} to put in the place of the one with its _id.
_REPLACE = """
import sys
from bson import json_util
from pymongo import MongoClient
with MongoClient(sys.argv[1], serverSelectionTimeoutMS=500) as client:
    for name, document in json_util.loads(sys.stdin.read()).items():
        client.get_default_database()[name].replace_one({"_id": document["_id"]}, document, upsert=True)
"""


class Mongo:
    """The server; made once for a machine, stopped and empty at first."""

    def __init__(self, site: Site) -> None:
        self._site = site
        if not site.machine.path("/opt/mongod").exists():
            site.machine.copy_in(_PROGRAM, "/opt/mongod")
            site.machine.run(["tee", "/etc/systemd/system/mongod.service"], input=_UNIT)
            site.sh("systemctl daemon-reload")
        self.wipe()

    def wipe(self) -> None:
        """Stop it, with nothing in it."""
        self._site.sh("systemctl kill -s KILL mongod || true; systemctl stop mongod; rm -rf /var/lib/mongodb/*")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._site.sh("systemctl start mongod")
        eventually(self._answers, "mongod answers")

    def stop(self) -> None:
        """Stop it in good order."""
        self._site.sh("systemctl stop mongod")

    def freeze(self) -> None:
        """It keeps its connections, and answers no client."""
        self._site.sh("systemctl kill -s STOP mongod")

    def thaw(self) -> None:
        """It goes on."""
        self._site.sh("systemctl kill -s CONT mongod")

    def configure(self) -> None:
        """Let rave-orchestrator use it from its next start."""
        document = {"uri": _URI, "options": {"maxPoolSize": 10, "serverSelectionTimeoutMS": 5000}}
        write = ["install", "-m", "640", "-g", "rave", "/dev/stdin", DATABASE_FILE]
        self._site.machine.run(write, input=json.dumps(document))

    def documents(self, insert: dict[str, list[dict[str, Any]]] | None = None) -> dict[str, list[dict[str, Any]]]:
        """Insert documents; returns all that there are, by collection."""
        done = self._site.machine.run(["python3", "-c", _SHELL, _URI], input=json.dumps(insert or {}))
        return dict(json.loads(done.stdout))

    def replace(self, collection: str, document: dict[str, Any]) -> None:
        """Put a document in the place of the one with its `_id`, if there is one."""
        done = json.dumps({collection: document})
        self._site.machine.run(["python3", "-c", _REPLACE, _URI], input=done)

    def _answers(self) -> bool:
        return not self._site.machine.run(["python3", "-c", _SHELL, _URI], input="{}", check=False).returncode
