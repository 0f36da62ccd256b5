"""Which addresses no bot reaches, by the configuration and the text of resolv.conf."""

from __future__ import annotations

import ipaddress

import pytest

from ravesvc.config import rave_yaml
from ravesvc.config.options import Config
from ravesvc.setup import addresses


def settings(text: str = "") -> Config:
    found, problems = rave_yaml.read(text, "rave.yaml")
    assert found, problems
    return found


def reached(address: str, text: str = "", resolv_conf: str = "nameserver 9.9.9.9\n") -> bool:
    """Whether systemd lets a bot reach an address: what is allowed goes before what is denied."""
    rules = settings(text)
    inside = ipaddress.ip_address(address)
    networks = [*addresses.name_servers(resolv_conf), *addresses.allowed(rules)]
    if any(inside in ipaddress.ip_network(network) for network in networks):
        return True
    return not any(inside in ipaddress.ip_network(network) for network in addresses.denied(rules))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "::1", "169.254.169.254", "fe80::1", "224.0.0.251", "ff02::fb", "255.255.255.255",
        "10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "fd00::1",
    ],
)  # fmt: skip
def test_what_is_near_is_out_of_reach(address: str) -> None:
    assert not reached(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "172.32.0.1", "2001:db8::1", "64:ff9b::5db8:d70e"])
def test_the_internet_is_not(address: str) -> None:
    assert reached(address)


@pytest.mark.parametrize(
    ("resolv_conf", "servers"),
    [
        ("nameserver 127.0.0.53\noptions edns0\n", ["127.0.0.53"]),
        ("# x\nnameserver 192.168.1.1\nnameserver\tfe80::1%eth0\n", ["192.168.1.1", "fe80::1"]),
        ("nameserver 169.254.169.254", ["169.254.169.254"]),
        ("search lan\nnameserver\n#nameserver 9.9.9.9\nnameserver ns.lan\n", ["127.0.0.1"]),
        ("", ["127.0.0.1"]),
    ],
)
def test_name_servers_are_reached_wherever_they_are(resolv_conf: str, servers: list[str]) -> None:
    assert addresses.name_servers(resolv_conf) == servers
    assert all(reached(server, "", resolv_conf) for server in servers)


def test_servers_and_proxy_that_are_addresses_are_reached_and_nothing_beside_them() -> None:
    text = "proxy: http://192.168.1.9:3128\nservers: {api: 'https://[fd00::9]:8443'}"
    assert reached("192.168.1.9", text)
    assert reached("fd00::9", text)
    assert not reached("192.168.1.8", text)


def test_localhost_is_loopback() -> None:
    text = "servers: {api: 'https://localhost:8443'}"
    assert [reached(address, text) for address in ("127.0.0.1", "::1")] == [True, True]
    assert [reached(address, text) for address in ("127.0.0.2", "10.0.0.1")] == [False, False]


@pytest.mark.parametrize("text", ["proxy: http://proxy.lan:3128", "servers: {api: 'https://rave.lan'}"])
def test_a_proxy_or_server_with_a_name_may_be_in_a_private_network(text: str) -> None:
    assert reached("10.1.2.3", text)
    assert not reached("127.0.0.1", text)


def test_what_the_operator_lists_is_reached() -> None:
    text = "allow_addresses: [10.1.0.0/16, 'fd00::5']"
    assert [reached(address, text) for address in ("10.1.2.3", "fd00::5", "10.2.0.1")] == [True, True, False]


def test_what_was_allowed_is_read_again_from_its_lines() -> None:
    lines = addresses.allowed(
        settings("allow_addresses: [10.1.0.0/16, 'fd00::5']\nproxy: http://[fe80::9%eth0]:3128")
    )
    assert addresses.listed("\n".join(lines)) == ["fe80::9/128", "10.1.0.0/16", "fd00::5/128"]
    assert addresses.listed("10.1.0.0/16 0.0.0.0/0\n-\n10.1.2.3/8\nlocalhost\n\n") == []
