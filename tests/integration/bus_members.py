"""The members of a D-Bus interface, in the form in which `promises.json` has them."""

from __future__ import annotations

import xml.etree.ElementTree as ET


def members(interface: ET.Element) -> dict[str, str]:
    """By kind and name: the types that go into and come out of a method, those of signals and properties."""
    found: dict[str, str] = {}
    for member in interface.iter():
        kind, name = member.tag, member.get("name", "")
        arguments = member.findall("arg")
        taken = "".join(each.get("type", "") for each in arguments if each.get("direction") != "out")
        returned = "".join(each.get("type", "") for each in arguments if each.get("direction") == "out")
        match kind:
            case "property":
                found[f"{kind} {name}"] = f"{member.get('type')} {member.get('access')}"
            case "method":
                found[f"{kind} {name}"] = f"({taken}) -> ({returned})"
            case "signal":
                found[f"{kind} {name}"] = f"({taken})"
    return found
