"""The XML of the D-Bus interfaces says what objects say of themselves, and describes every member."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ravesvc import names
from ravesvc.bus import Call, Interface, allow_all, method
from ravesvc.names import PolkitAction
from ravesvc.orchestrator.dbus.mesh import MeshObject
from tests.integration.bus_members import members
from tests.unit.bus_fakes import connected
from tests.unit.dbus_xml import writer
from tests.unit.fake_systemd import MESH
from tests.unit.operator_site import site_on

Run = Callable[[Any], Any]
INTERFACES: dict[str, type[Interface]] = {each.interface: each for each in writer.INTERFACES}
FOR_BOTS = {names.BACKEND_INTERFACE, names.WORKER_INTERFACE}

PROMISES = Path(__file__).parents[1] / "integration/promises.json"

# Whatever is not named takes the right to operate.
RIGHTS = {
    **dict.fromkeys(("GetStatus", "ListMeshes", "GetMesh", "ListAdmins", "ListPermissions"), PolkitAction.READ),
    **dict.fromkeys(("ListUsers", "ListSettings", "GetSetting"), PolkitAction.READ),
    "IssueClaim": PolkitAction.ADMINS,
    **dict.fromkeys(("ListIgnoredUsers", "ListChatChanges"), PolkitAction.READ),
    "UndoChatChange": PolkitAction.ADMINS,
    **dict.fromkeys(("IgnoreUser", "UnignoreUser", "ForgetUser"), PolkitAction.ADMINS),
    "TakeOver": PolkitAction.OPERATE,
    **dict.fromkeys(("DescribeMeshes", "Plan", "Explain", "GetHealthStats", "GetHealth"), PolkitAction.READ),
    **dict.fromkeys(("ListEntries", "DescribeEntries", "GetStats", "GetHistory"), PolkitAction.READ),
    **dict.fromkeys(("Block", "Unblock", "ImportEntries", "Restore"), PolkitAction.BLOCKLIST),
    **dict.fromkeys(("AddAdmin", "RemoveAdmin", "SetPermission", "RemovePermission"), PolkitAction.ADMINS),
    **dict.fromkeys(("Login", "CancelLogin", "Logout", "ImportCredentials"), PolkitAction.CREDENTIALS),
    **dict.fromkeys(("Export", "Save", "Import"), PolkitAction.CREDENTIALS),
}


def elements(xml: str) -> dict[str, str]:
    """The interfaces of a document, without comments and spaces."""
    root = ET.fromstring(xml)
    for element in root.iter():
        element.text = element.tail = None
    return {each.get("name", ""): ET.tostring(each, encoding="unicode") for each in root.iter("interface")}


async def introspected(client: Any, service: str, path: str) -> dict[str, str]:
    (xml,) = await client.call(service, path, "org.freedesktop.DBus.Introspectable", "Introspect")
    return elements(xml)


def test_the_files_say_what_objects_say(run: Run, bus_address: str, tmp_path: Path) -> None:
    writer.main(tmp_path / "dbus")
    written: dict[str, str] = {}
    for file in (tmp_path / "dbus").iterdir():
        ((name, element),) = elements(file.read_text()).items()
        assert file.name == f"{name}.xml"
        written[name] = element
    assert written.keys() == INTERFACES.keys()

    async def body() -> None:
        async with site_on(bus_address) as site, connected(bus_address) as (other,):
            mesh = MeshObject(allow_all, site.roll, MESH)  # type: ignore[arg-type]
            site.bus.export(names.mesh_path(MESH), mesh)
            service = site.bus.unique_name
            live = await introspected(other, service, names.MANAGER_PATH)
            live |= await introspected(other, service, names.mesh_path(MESH))
            ours = {name: element for name, element in live.items() if name.startswith(names.BUS_NAME)}
            assert ours == {name: written[name] for name in ours}
            assert ours.keys() == written.keys() - FOR_BOTS - {names.BLOCKLIST_INTERFACE, names.CANARY_INTERFACE}

    run(body())


def test_the_interfaces_are_as_agreed(tmp_path: Path) -> None:
    """A booted machine compares the rest of the promises, and these with what a running service says."""
    writer.main(tmp_path)
    declared = {}
    for file in tmp_path.iterdir():
        (interface,) = ET.parse(file).getroot().iter("interface")
        declared[interface.get("name")] = members(interface)
    agreed = json.loads(PROMISES.read_text())["bus"]
    assert declared == agreed, f"if you mean it, change the same in {PROMISES.name} by hand"


@pytest.mark.parametrize("name", sorted(INTERFACES.keys() - FOR_BOTS))
def test_every_method_takes_its_right_and_names_it(name: str) -> None:
    interface = INTERFACES[name]
    rights = {member: declared.action for member, declared in interface.methods.items()}
    expected = {member: RIGHTS.get(member, PolkitAction.OPERATE) for member in rights}
    assert rights == expected, "a right that is not OPERATE goes into RIGHTS above"
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    (_, element) = ET.fromstring(writer.document(interface), parser)
    comments = dict(zip([each.get("name") for each in element[1::2]], element[0::2], strict=True))
    for member, right in rights.items():
        assert f"Right: {right}." in " ".join((comments[member].text or "").split())


def test_every_right_in_the_table_is_of_a_method() -> None:
    assert RIGHTS.keys() <= {member for interface in INTERFACES.values() for member in interface.methods}


class Lamp(Interface):
    """A lamp.

    Properties:
        Lit: whether it is on,
            or was.
        Level: how bright it is.

    Signals:
        Switched: an operator has switched it.
    """

    interface = "org.example.Lamp"
    properties: ClassVar = {"Lit": "b", "Level": "u"}
    signals: ClassVar = {"Switched": {"lit": "b"}}

    @method(takes={"lit": "b"})
    async def switch(self, call: Call, lit: bool) -> None:
        """Switch it on or off.

        Errors: Busy.
        """


def test_comments_come_from_docstrings() -> None:
    comments = re.findall(r"<!-- (.*?) -->", writer.document(Lamp))
    assert comments == [
        "A lamp.",
        "Switch it on or off. Errors: Busy.",
        "whether it is on, or was.",
        "how bright it is.",
        "an operator has switched it.",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("A lamp.", r"does not describe \['Lit', 'Level'\]"),
        ("A lamp.\n\nProperties:\n    Lit: x\n    Level: y\n", r"does not describe \['Switched'\]"),
        (f"{(Lamp.__doc__ or '').rstrip()}\n        Colour: red\n", r"has no \['Colour'\]"),
    ],
)
def test_what_is_not_described_or_does_not_exist_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str, complaint: str
) -> None:
    monkeypatch.setattr(Lamp, "__doc__", text)
    with pytest.raises(ValueError, match=complaint):
        writer.document(Lamp)
