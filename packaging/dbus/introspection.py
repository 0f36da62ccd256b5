"""Writes the introspection XML of our D-Bus interfaces, from their declarations in the program.

python3 packaging/dbus/introspection.py DIRECTORY

Each file has what an object tells of itself on the bus, with comments. They are the docstrings, and the right that a
method takes. The docstring of an interface also describes its properties and signals, under Properties: and Signals:.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
import xml.etree.ElementTree as ET
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from ravesvc.bus import Interface, introspection
from ravesvc.mesh.worker_object import WorkerObject
from ravesvc.orchestrator.dbus.account import AccountObject
from ravesvc.orchestrator.dbus.backend import BackendObject
from ravesvc.orchestrator.dbus.blocklist import BlocklistObject
from ravesvc.orchestrator.dbus.canary import CanaryObject
from ravesvc.orchestrator.dbus.manager import ManagerObject
from ravesvc.orchestrator.dbus.mesh import MeshObject
from ravesvc.orchestrator.dbus.permissions import PermissionsObject
from ravesvc.orchestrator.dbus.store import StoreObject

INTERFACES: tuple[type[Interface], ...] = (
    ManagerObject,
    AccountObject,
    PermissionsObject,
    StoreObject,
    BlocklistObject,
    CanaryObject,
    MeshObject,
    BackendObject,
    WorkerObject,
)

_WIDTH_CHARS = 116
# A section of a docstring, to the next one or the end.
_SECTION = r"^{title}:\n((?:^ .*\n?|^\n)*)"
_ENTRY = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def document(interface: type[Interface]) -> str:
    """The XML of an interface with its comments. Raises ValueError if a member is not described."""
    document_type, _, text = introspection([interface]).partition("<node>")
    root = ET.fromstring(f"<node>{text}")  # noqa: S314 - it is ours
    (element,) = root
    comments = _comments(interface)
    for number, member in reversed(list(enumerate(element))):
        element.insert(number, _comment(comments[member.tag].pop(member.get("name", "")), 4))
    if unknown := [name for left in comments.values() for name in left]:
        raise ValueError(f"{interface.__name__} has no {unknown}")
    root.insert(0, _comment(_introduction(interface), 2))
    for element in root.iter("method"):
        element.text = None
    ET.indent(root)
    return f"{document_type}{ET.tostring(root, encoding='unicode').replace(' />', '/>')}\n"


def _comments(interface: type[Interface]) -> dict[str, dict[str, str]]:
    """What is said of each member, by kind and name. Raises ValueError if it is nothing."""
    methods = {
        name: " ".join(filter(None, (inspect.getdoc(method.function), method.action and f"Right: {method.action}.")))
        for name, method in interface.methods.items()
    }
    properties, signals = _section(interface, "Properties"), _section(interface, "Signals")
    found = {"method": methods, "property": properties, "signal": signals}
    declared = {"method": interface.methods, "property": interface.properties, "signal": interface.signals}
    for kind, members in declared.items():
        if missing := [name for name in members if not found[kind].get(name)]:
            raise ValueError(f"{interface.__name__} does not describe {missing}")
    return found


def _section(interface: type[Interface], title: str) -> dict[str, str]:
    """The entries of a section of the docstring, by name."""
    section = re.search(_SECTION.format(title=title), inspect.getdoc(interface) or "", re.MULTILINE)
    return dict(_ENTRY.findall(section[1])) if section else {}


def _introduction(interface: type[Interface]) -> str:
    """The docstring without its sections."""
    return re.split(r"^(?:Properties|Signals):\n", inspect.getdoc(interface) or "", maxsplit=1, flags=re.MULTILINE)[0]


def _comment(text: str, indent: int) -> ET.Element:
    words = " ".join(text.replace("`", "").split())
    lines = textwrap.wrap(words, _WIDTH_CHARS - indent - len("<!--  -->"), break_on_hyphens=False)
    margin = " " * (indent + len("<!-- "))
    return ET.Comment(" " + f"\n{margin}".join(lines) + " ")


def main(directory: Path) -> None:
    """Write the files of all interfaces into a directory, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    for interface in INTERFACES:
        (directory / f"{interface.interface}.xml").write_text(document(interface), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
