"""Writes org.ravesvc.Rave1(5) in mdoc(7) from the XML that packaging/dbus/introspection.py has written.

python3 packaging/man/interfaces.py DIRECTORY > org.ravesvc.Rave1.5
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

NAME = "org.ravesvc.Rave1"
# Those for operators; the others are between the service and its bots, and the bus lets no other process use them.
INTERFACES = ("Manager", "Account", "Permissions", "Store", "Blocklist", "Canary", "Mesh")

_HEAD = rf"""
.Dd November 26, 2026
.Dt {NAME.upper()} 5
.Os
.Sh NAME
.Nm {NAME}
.Nd the D-Bus interfaces of rave-orchestrator
.Sh DESCRIPTION
.Xr rave-orchestrator 8
has the name
.Li {NAME}
on the system bus while it runs.
.Xr ravectl 1
uses these interfaces.
.Xr busctl 1
shows them, and
.Pa /usr/share/dbus-1/interfaces
has them as XML.
.Pp
Each method takes a right, an action of
.Xr polkit 8 ,
which is named with it.
The bus passes calls of root and of members of the groups
.Sy sudo , adm
and
.Sy rave-monitor
alone.
By default all of these have
.Li {NAME}.read ;
root has the others too, and so has a user who types an administrator's password:
.Li {NAME}.operate ,
.Li {NAME}.blocklist
.Pq the blocklist ,
.Li {NAME}.admins
and
.Li {NAME}.credentials .
.Pp
An error has a name such as
.Li {NAME}.Error.NoSuchMesh ,
of which the last part is given here, and a message for people.
If the log has more, the name goes on with its id, as in
.Li {NAME}.Error.Internal.incident_6bc804ec .
Besides those named with a method, each method may fail with AccessDenied.
While the service does not run, there is no such name on the bus:
.Ql systemctl start rave-orchestrator .
"""

_TAIL = rf"""
.Sh EXAMPLES
.Bd -literal
busctl tree {NAME}
busctl call {NAME} /org/ravesvc/Rave1 {NAME}.Manager DescribeMeshes
busctl get-property {NAME} /org/ravesvc/Rave1 {NAME}.Manager Status
.Ed
.Pp
A method that takes the id of a mesh takes the whole id:
.Dl busctl call {NAME} /org/ravesvc/Rave1 {NAME}.Manager RestartMesh s ID
.Sh SEE ALSO
.Xr busctl 1 ,
.Xr ravectl 1 ,
.Xr polkit 8 ,
.Xr rave-orchestrator 8
"""


def page(directory: Path) -> str:
    """The manual page of the interfaces whose XML is in a directory."""
    chapters = (line for name in INTERFACES for line in _interface(directory / f"{NAME}.{name}.xml", name))
    return "\n".join([_HEAD.strip(), *chapters, _TAIL.strip(), ""])


def _interface(file: Path, name: str) -> Iterator[str]:
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))  # noqa: S314 - the files are ours
    introduction, interface = ET.parse(file, parser).getroot()  # noqa: S314
    yield f".Sh {NAME}.{name}"
    yield from _prose(_sentences(introduction.text or ""))
    said: list[str] = []
    section = ""
    for member in interface:
        if member.tag is ET.Comment:
            said = _sentences(member.text or "")
            continue
        if member.tag != section:
            if section:
                yield ".El"
            section = member.tag
            yield f".Ss {'Properties' if section == 'property' else section.capitalize() + 's'}"
            yield ".Bl -tag -width Ds"
        yield _signature(member)
        yield from _prose(said)
        said = []
    yield ".El"


def _signature(member: ET.Element) -> str:
    """What stands before the description: name, arguments and results, each with its type before it."""
    name = member.get("name", "")
    if member.tag == "property":
        return f'.It Sy {name} Li "({member.get("type")})"'
    taken = [arg for arg in member.findall("arg") if arg.get("direction") != "out"]
    given = [arg for arg in member.findall("arg") if arg.get("direction") == "out"]
    results = f" \\(-> {_arguments(given)}" if given else ""
    return f'.It Sy {name} Li "{_arguments(taken)}{results}"'


def _arguments(arguments: list[ET.Element]) -> str:
    return "(" + ", ".join(f"{arg.get('type')} {arg.get('name')}" for arg in arguments) + ")"


def _sentences(text: str) -> list[str]:
    """One sentence a line, as mdoc(7) wants it."""
    return " ".join(text.split()).replace(". ", ".\n").splitlines()


def _prose(sentences: list[str]) -> Iterator[str]:
    for sentence in sentences:
        yield sentence.replace("\\", "\\e") if sentence[:1] not in ".'" else f"\\&{sentence}"


if __name__ == "__main__":
    sys.stdout.write(page(Path(sys.argv[1])))
