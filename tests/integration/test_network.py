"""The way to Rave: addresses that swallow packets, a server that does not answer, a proxy."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from tests.integration.conftest import Site, eventually

# Each runs in the machine, says "ready", and goes on until it is killed.

# A queue of connections that is full: what comes in is dropped, as by a broken route.
_SWALLOW = """
import signal, socket
listener = socket.socket(socket.AF_INET6)
listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
listener.bind(("::1", 8443))
listener.listen(0)
filling = [socket.socket(socket.AF_INET6) for _ in range(8)]
for each in filling:
    each.setblocking(False)
    each.connect_ex(("::1", 8443))
print("ready", flush=True)
signal.pause()
"""

# An address that takes every connection, and then says nothing.
_SILENT = """
import signal, socket
listener = socket.create_server(("::1", 8443), family=socket.AF_INET6, backlog=128)
print("ready", flush=True)
signal.pause()
"""

# An HTTP proxy for CONNECT, for the user bot with the password hush-hush.
_PROXY = """
import asyncio

WANTED = b"Proxy-Authorization: Basic Ym90Omh1c2gtaHVzaA==\\r\\n"

async def pump(source, sink):
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    sink.close()

async def serve(reader, writer):
    head = await reader.readuntil(b"\\r\\n\\r\\n")
    if WANTED not in head:
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\\r\\n\\r\\n")
        writer.close()
        return
    host, _, port = head.split()[1].decode().rpartition(":")
    server_reader, server_writer = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
    await asyncio.gather(pump(reader, server_writer), pump(server_reader, writer), return_exceptions=True)

async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", 3128):
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""

_SECRET = "hush-hush"
_DROP_IN = "/run/systemd/system/rave-orchestrator.service.d/proxy.conf"


@contextlib.contextmanager
def running(site: Site, program: str) -> Iterator[None]:
    with site.machine.spawn(["python3", "-I", "-c", program]) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("first", [_SWALLOW, _SILENT], ids=["swallows", "says nothing"])
def test_all_connect_although_the_first_address_does_not_answer(site: Site, first: str) -> None:
    # The first address of localhost, as of a host with broken IPv6.
    assert site.sh("getent ahosts localhost | awk '{print $1; exit}'") == "::1\n"
    with running(site, first):
        meshes = site.control.create(2)
        site.control.invite(meshes)
        site.sh("systemctl start rave-orchestrator")
        # Each attempt has 15 s, and has to ask all addresses in that time.
        site.control.wait(connected=meshes, timeout=14)
        before = site.control.connections()
        site.control.drop(meshes)
        site.control.wait(reconnected=before, timeout=14)


def test_what_the_start_waits_for_is_shown_at_once_and_why_after_the_first_attempt(site: Site) -> None:
    def status() -> str:
        return site.sh("systemctl show --value -p StatusText rave-orchestrator").strip()

    try:
        site.sh("systemctl kill -s STOP rave-simulator")
        site.sh("systemctl start rave-orchestrator")
        eventually(lambda: status().startswith("Asking localhost: "), "the status says whom it asks", 5)
        site.sh("systemctl stop rave-orchestrator")
    finally:
        site.sh("systemctl kill -s CONT rave-simulator")
    try:
        site.sh("systemctl stop rave-simulator")
        site.sh("systemctl start rave-orchestrator")
        reason = "failed: localhost can't be reached: Connection refused; next attempt in"
        # Four attempts take seconds; when all have failed the words are others.
        eventually(lambda: reason in status(), "the status says why", 5)
    finally:
        site.sh("systemctl start rave-simulator")


def test_bots_go_through_a_proxy_and_nothing_goes_direct(site: Site) -> None:
    with running(site, _PROXY):
        site.set_options(proxy=f"http://bot:{_SECRET}@127.0.0.1:3128")
        try:
            meshes = site.run_fleet(2)
            _nothing_goes_direct(site, meshes)
            assert all(site.answers(mesh) for mesh in meshes)
            assert _SECRET not in site.sh(
                "journalctl -b -o export; cat /proc/*/cmdline /proc/*/environ | tr '\\0' '\\n'"
            )
            site.control.drop(meshes)
            site.control.wait(connected=meshes)
        finally:
            site.sh("sed -i '/^proxy:/d' /etc/rave/rave.yaml")


def test_the_proxy_of_the_units_environment_is_used_and_one_that_refuses_is_named(site: Site) -> None:
    with running(site, _PROXY):
        try:
            _set_environment(site, f"http://bot:{_SECRET}@127.0.0.1:3128")
            meshes = site.run_fleet(1)
            _nothing_goes_direct(site, meshes)
            site.sh("systemctl stop rave-orchestrator rave-meshes.target")
            _set_environment(site, f"http://bot:{_SECRET}-no@127.0.0.1:3128")
            site.sh("systemctl start rave-orchestrator")
            refusal = "the proxy 127.0.0.1:3128 wants to know who we are (HTTP status 407)"
            eventually(lambda: refusal in site.manager("Status"), "the status names the proxy")
            _set_environment(site, f"socks5://bot:{_SECRET}@127.0.0.1:1080")
            assert site.sh("systemctl restart rave-orchestrator || echo refused").endswith("refused\n")
            said = site.sh("journalctl -b -u rave-orchestrator -o cat")
            assert "HTTPS_PROXY must be an HTTP proxy that is reached in clear text: socks5" in said
            assert _SECRET not in said
        finally:
            site.sh(f"rm -f {_DROP_IN}; systemctl daemon-reload; systemctl reset-failed")


def _set_environment(site: Site, proxy: str) -> None:
    """As `systemctl edit rave-orchestrator` would."""
    site.machine.run(["install", "-D", "/dev/stdin", _DROP_IN], input=f"[Service]\nEnvironment=HTTPS_PROXY={proxy}\n")
    site.sh("systemctl daemon-reload")


def _nothing_goes_direct(site: Site, meshes: list[str]) -> None:
    """All connections to the simulator are root's, who runs the proxy; the bots have one each, to that."""
    direct = site.sh("ss -Htne state established '( dport = :8443 )'").splitlines()
    assert len(direct) >= len(meshes)
    assert not [line for line in direct if "uid:" in line], "ss names every user but root"
    user = site.sh("id -u rave-mesh").strip()
    indirect = site.sh("ss -Htne state established '( dport = :3128 )'").splitlines()
    assert sum(f"uid:{user} " in line for line in indirect) == len(meshes)
