from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ravesvc.bus import Bus, Call, Interface, SignalMessage, Variant, allow_all, introspection, method
from ravesvc.bus import objects as objects_module
from ravesvc.errors import Code, RaveError
from tests.unit.bus.test_matching import settle
from tests.unit.bus_fakes import Lamp, connected

Run = Callable[[Any], Any]
LAMP = "/org/example/lamp"
PROPERTIES = "org.freedesktop.DBus.Properties"
MANAGER = "org.freedesktop.DBus.ObjectManager"
UNSET = {"Name": "", "Level": 0, "Tags": [], "Notes": {}, "Where": "/", "Lit": False}


class Fan(Interface):
    interface = "org.example.Fan1"
    properties: ClassVar = {"Speed": "d"}


class Client:
    """Calls the objects of another connection, and hears their signals."""

    def __init__(self, bus: Bus, service: Bus) -> None:
        self.bus = bus
        self.service = service
        self.heard: list[SignalMessage] = []

    async def ask(self, path: str, interface: str, member: str, signature: str = "", *args: Any) -> list[Any]:
        return await self.bus.call(self.service.unique_name, path, interface, member, signature, *args, timeout=5)

    async def refused(self, path: str, interface: str, member: str, signature: str = "", *args: Any) -> str:
        with pytest.raises(RaveError) as e:
            await self.ask(path, interface, member, signature, *args)
        return str(e.value.attributes["error_name"]).removeprefix("org.freedesktop.DBus.Error.")

    async def listen(self) -> None:
        await self.bus.match(f"type='signal',sender='{self.service.unique_name}'", self.heard.append)

    async def settled(self) -> list[tuple[Any, ...]]:
        await asyncio.sleep(0)
        await settle(self.service, self.bus)
        heard, self.heard[:] = [(s.path, s.member, *s.body) for s in self.heard], []
        return heard


def with_client(run: Run, address: str, test: Callable[[Client], Any]) -> None:
    async def body() -> None:
        async with connected(address, 2) as (bus, service):
            client = Client(bus, service)
            await client.listen()
            await test(client)

    run(body())


def test_properties(run: Run, bus_address: str) -> None:
    async def test(client: Client) -> None:
        lamp = Lamp()
        client.service.export(LAMP, lamp, Fan(allow_all))
        assert await client.ask(LAMP, PROPERTIES, "GetAll", "s", Lamp.interface) == [UNSET]
        lamp.set(Name="a\0b", Level=5)
        assert await client.ask(LAMP, PROPERTIES, "Get", "ss", Lamp.interface, "Name") == ["a\ufffdb"]
        assert await client.ask(LAMP, PROPERTIES, "Get", "ss", "", "Level") == [5]
        assert (await client.ask(LAMP, PROPERTIES, "GetAll", "s", ""))[0].keys() == {*UNSET, "Speed"}
        assert await client.ask(LAMP, PROPERTIES, "GetAll", "s", PROPERTIES) == [{}]
        for arguments, error in [
            (("Get", "ss", Lamp.interface, "Speed"), "UnknownProperty"),
            (("Get", "ss", PROPERTIES, "Speed"), "UnknownProperty"),
            (("Get", "ss", "", "Nothing"), "UnknownProperty"),
            (("Get", "ss", "org.example.Nothing", "Name"), "UnknownInterface"),
            (("GetAll", "s", "org.example.Nothing"), "UnknownInterface"),
            (("Set", "ssv", Lamp.interface, "Level", Variant("u", 1)), "PropertyReadOnly"),
            (("Set", "ssv", Lamp.interface, "Nothing", Variant("u", 1)), "UnknownProperty"),
            (("Get", "s", Lamp.interface), "InvalidArgs"),
        ]:
            assert await client.refused(LAMP, PROPERTIES, *arguments) == error, arguments
        assert lamp.get("Level") == 5

    with_client(run, bus_address, test)


def test_set_is_all_or_nothing() -> None:
    lamp = Lamp()
    with pytest.raises(KeyError):
        lamp.set(Level=1, Nothing=2)
    for wrong in (-1, "1", True, None):
        with pytest.raises(ValueError, match=r"needed|range"):
            lamp.set(Name="x", Level=wrong)
    assert (lamp.get("Name"), lamp.get("Level")) == ("", 0)
    with pytest.raises(KeyError):
        lamp.get("Nothing")


def test_changes_are_announced_once_per_turn(run: Run, bus_address: str) -> None:
    async def test(client: Client) -> None:
        lamp = Lamp()
        lamp.set(Name="before")
        client.service.export(LAMP, lamp)
        lamp.set(Name="kitchen", Level=1)
        lamp.set(Level=2, Lit=True)
        lamp.set(Lit=False)
        lamp.set(Tags=[])
        assert await client.settled() == [
            (LAMP, "PropertiesChanged", Lamp.interface, {"Name": "kitchen", "Level": 2}, [])
        ]
        lamp.set(Name="kitchen")
        lamp.set(Lit=True)
        lamp.set(Lit=False)
        assert await client.settled() == []
        lamp.set(Level=7)
        lamp.emit("Switched", True, "me")  # after the change that led to it
        lamp.set(Level=8)
        heard = await client.settled()
        assert [each[1] for each in heard] == ["PropertiesChanged", "Switched", "PropertiesChanged"]
        assert heard[1] == (LAMP, "Switched", True, "me")
        lamp.set(Level=9)
        client.service.unexport(LAMP)
        lamp.emit("Switched", True, "nobody")
        assert await client.settled() == []
        client.service.export(LAMP, lamp)
        lamp.set(Level=10)
        assert [each[3] for each in await client.settled()] == [{"Level": 10}]

    with_client(run, bus_address, test)


def test_emit_is_held_to_the_declaration(run: Run, bus_address: str) -> None:
    async def test(client: Client) -> None:
        lamp = Lamp()
        client.service.export(LAMP, lamp)
        with pytest.raises(KeyError):
            lamp.emit("Exploded")
        for wrong in ((), (True,), ("x", "y"), (True, "x", "y")):
            with pytest.raises(ValueError, match="cannot send Switched"):
                lamp.emit("Switched", *wrong)
        assert await client.settled() == []

    with_client(run, bus_address, test)


def test_object_manager(run: Run, bus_address: str) -> None:
    async def test(client: Client) -> None:
        root = "/org/example"
        client.service.object_manager(root)
        lamp, fan = Lamp(), Fan(allow_all)
        lamp.set(Level=3)
        client.service.export(root, Fan(allow_all))  # the manager itself is not below the manager
        client.service.export("/org/examples/lamp", Lamp())  # and this is elsewhere
        assert await client.settled() == []
        client.service.export(LAMP, lamp, fan)
        both = {Lamp.interface: {**UNSET, "Level": 3}, Fan.interface: {"Speed": 0.0}}
        assert await client.settled() == [(root, "InterfacesAdded", LAMP, both)]
        assert await client.ask(root, MANAGER, "GetManagedObjects") == [{LAMP: both}]
        assert await client.refused(LAMP, MANAGER, "GetManagedObjects") == "UnknownInterface"
        assert await client.refused("/", MANAGER, "GetManagedObjects") == "UnknownInterface"
        client.service.unexport(LAMP)
        assert await client.settled() == [
            (root, "InterfacesRemoved", LAMP, [Lamp.interface, Fan.interface]),
        ]
        assert await client.ask(root, MANAGER, "GetManagedObjects") == [{}]
        with pytest.raises(KeyError):
            client.service.unexport(LAMP)

    with_client(run, bus_address, test)


def test_object_manager_at_the_root(run: Run, bus_address: str) -> None:
    async def test(client: Client) -> None:
        client.service.object_manager("/")
        client.service.export("/", Fan(allow_all))
        client.service.export("/a", Fan(allow_all))
        assert [each[:3] for each in await client.settled()] == [("/", "InterfacesAdded", "/a")]
        assert [*(await client.ask("/", MANAGER, "GetManagedObjects"))[0]] == ["/a"]

    with_client(run, bus_address, test)


def test_two_exports_on_one_path(run: Run, bus_address: str) -> None:
    async def test(client: Client) -> None:
        client.service.object_manager("/org")
        fan, lamp = Fan(allow_all), Lamp()
        client.service.export(LAMP, fan)
        client.service.export(LAMP, lamp)
        assert [[*each[3]] for each in await client.settled()] == [[Fan.interface], [Lamp.interface]]
        assert await client.ask(LAMP, PROPERTIES, "GetAll", "s", Fan.interface) == [{"Speed": 0.0}]
        assert await client.ask(LAMP, PROPERTIES, "GetAll", "s", Lamp.interface) == [UNSET]
        for wrong in [
            (LAMP, Lamp()),
            ("/other", lamp),
            ("/other", Lamp(), Lamp()),
            ("/other",),
            ("no path", Lamp()),
            ("/other/", Lamp()),
        ]:
            with pytest.raises(ValueError, match=r"cannot export|two of one|exported already"):
                client.service.export(*wrong)  # type: ignore[arg-type]
        assert await client.settled() == []
        client.service.unexport(LAMP)
        client.service.export("/other", lamp)
        lamp.set(Level=1)
        assert [each[0] for each in (await client.settled())[-1:]] == ["/other"]

    with_client(run, bus_address, test)


def test_unknown_things_and_wrong_arguments(run: Run, bus_address: str) -> None:
    async def test(client: Client) -> None:
        lamp = Lamp()
        client.service.export(LAMP, lamp)
        for path, interface, member, arguments, error in [
            ("/org/example/la", Lamp.interface, "Say", ("su", "x", 1), "UnknownObject"),
            (f"{LAMP}/x", "org.freedesktop.DBus.Introspectable", "Introspect", (), "UnknownObject"),
            ("/org/example", PROPERTIES, "GetAll", ("s", ""), "UnknownInterface"),
            ("/org/example", Lamp.interface, "Say", ("su", "x", 1), "UnknownInterface"),
            (LAMP, "org.example.Nothing", "Say", ("su", "x", 1), "UnknownInterface"),
            (LAMP, Lamp.interface, "Shout", (), "UnknownMethod"),
            (LAMP, Lamp.interface, "say", (), "UnknownMethod"),
            (LAMP, Lamp.interface, "Ping", (), "UnknownMethod"),
            (LAMP, Lamp.interface, "Say", (), "InvalidArgs"),
            (LAMP, Lamp.interface, "Say", ("ss", "x", "1"), "InvalidArgs"),
            (LAMP, "", "Shout", (), "UnknownMethod"),
        ]:
            assert await client.refused(path, interface, member, *arguments) == error, (path, interface, member)
        assert lamp.calls == []
        assert await client.ask(LAMP, "", "Say", "su", "ab", 2) == ["abab", 2]
        assert await client.ask(LAMP, "", "Ping") == []

    with_client(run, bus_address, test)


def test_peer(run: Run, bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(client: Client) -> None:
        peer = "org.freedesktop.DBus.Peer"
        assert await client.ask("/", peer, "Ping") == []
        file = tmp_path / "machine-id"
        monkeypatch.setattr(objects_module, "Path", lambda _: file)
        file.write_text("0123\n")
        assert await client.ask("/", peer, "GetMachineId") == ["0123"]
        file.unlink()
        assert await client.refused("/", peer, "GetMachineId") == "Failed"

    with_client(run, bus_address, test)


def test_introspection_is_complete(run: Run, bus_address: str) -> None:
    async def test(client: Client) -> None:
        client.service.object_manager("/org/ex")
        client.service.export(LAMP, Lamp())
        client.service.export("/org/ex/a/b", Fan(allow_all))
        client.service.export("/org/ex/a", Fan(allow_all))
        nodes: dict[str, tuple[list[str], list[str]]] = {}
        for path in ("/", "/org", "/org/ex", "/org/ex/a", "/org/ex/a/b", LAMP):
            (xml,) = await client.ask(path, "org.freedesktop.DBus.Introspectable", "Introspect")
            root = ET.fromstring(xml)
            nodes[path] = (
                [child.attrib["name"] for child in root.findall("node")],
                [child.attrib["name"].removeprefix("org.freedesktop.DBus.") for child in root.findall("interface")],
            )
        plain, full = ["Introspectable", "Peer"], ["Introspectable", "Peer", "Properties"]
        assert nodes == {
            "/": (["org"], plain),
            "/org": (["ex", "example"], plain),
            "/org/ex": (["a"], [*plain, "ObjectManager"]),
            "/org/ex/a": (["b"], [Fan.interface, *full]),
            "/org/ex/a/b": ([], [Fan.interface, *full]),
            LAMP: ([], [Lamp.interface, *full]),
        }

    with_client(run, bus_address, test)


def test_introspection_of_the_manager_alone(run: Run, bus_address: str) -> None:
    async def test(client: Client) -> None:
        client.service.object_manager("/org/ex")
        (xml,) = await client.ask("/", "org.freedesktop.DBus.Introspectable", "Introspect")
        assert [child.attrib["name"] for child in ET.fromstring(xml).findall("node")] == ["org"]
        assert await client.ask("/org/ex", MANAGER, "GetManagedObjects") == [{}]

    with_client(run, bus_address, test)


def test_introspection_document() -> None:
    root = ET.fromstring(introspection([Lamp, Fan], ["child"]))
    lamp = root.find("interface")
    assert lamp is not None
    assert [(m.attrib["name"], *(tuple(a.attrib.values()) for a in m)) for m in lamp.findall("method")] == [
        (
            "Say",
            ("text", "s", "in"),
            ("times", "u", "in"),
            ("said", "s", "out"),
            ("length", "u", "out"),
        ),
        ("WhoCalls", ("sender", "s", "out")),
        ("Wait",),
        ("Unnamed",),
    ]
    for each in lamp.findall("property"):
        assert each.attrib["access"] == "read"
        assert [tuple(a.attrib.values()) for a in each] == [
            ("org.freedesktop.DBus.Property.EmitsChangedSignal", "true")
        ]
    assert {p.attrib["name"]: p.attrib["type"] for p in lamp.findall("property")} == Lamp.properties
    assert [(s.attrib["name"], *(tuple(a.attrib.values()) for a in s)) for s in lamp.findall("signal")] == [
        ("Switched", ("lit", "b"), ("by", "s"))
    ]
    assert [n.attrib["name"] for n in root.findall("node")] == ["child"]


def test_declarations_are_inherited_and_checked() -> None:
    class Louder(Lamp):
        interface = "org.example.Louder1"

        @method(returns={"said": "s"})
        async def shout(self, call: Call) -> str:
            return "!"

    assert [*Louder.methods] == ["Say", "WhoCalls", "Wait", "Unnamed", "Shout"]
    assert [*Lamp.methods] == ["Say", "WhoCalls", "Wait", "Unnamed"]
    for signature in ("v", "h", "ss", "!"):
        with pytest.raises(ValueError):  # noqa: PT011 - the text is the library's for some
            type("Bad", (Interface,), {"interface": "a.b", "properties": {"X": signature}})


@pytest.mark.skipif(not shutil.which("busctl"), reason="busctl comes with systemd")
async def test_busctl_understands_us(bus_address: str) -> None:
    async with connected(bus_address) as (service,):
        service.export(LAMP, Lamp())
        for command in (["tree", "--list"], ["introspect", LAMP]):
            verb, *rest = command
            process = await asyncio.create_subprocess_exec(
                *("busctl", f"--address={bus_address}", verb, service.unique_name, *rest),
                stdout=subprocess.PIPE,
                env={**os.environ, "LANG": "C"},
            )
            output, _ = await process.communicate()
            assert process.returncode == 0
            assert (LAMP if verb == "tree" else "emits-change") in output.decode()


def test_refusals_say_which_mesh(run: Run, bus_address: str) -> None:
    class Picky(Interface):
        interface = "org.example.Picky1"

        @method()
        async def refuse(self, call: Call) -> None:
            raise RaveError(Code.NO_SUCH_MESH, "there is no mesh x", hint="invite it")

    async def test(client: Client) -> None:
        client.service.export("/p", Picky(allow_all))
        with pytest.raises(RaveError) as e:
            await client.ask("/p", Picky.interface, "Refuse")
        assert e.value.code is Code.NO_SUCH_MESH
        said = "there is no mesh x (invite it)"
        assert e.value.attributes == {"error_name": "org.ravesvc.Rave1.Error.NoSuchMesh", "said": said}
        assert "there is no mesh x (invite it)" in str(e.value)

    with_client(run, bus_address, test)
