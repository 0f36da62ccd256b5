"""Introspection data: the XML that describes an object.

Written as text, because a worker needs an XML library for nothing else. Nothing needs escaping: names and signatures
have no character that XML reserves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from ravesvc.bus.interface import Interface

_DOCTYPE = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)


if TYPE_CHECKING:
    # No process needs protocols to run, and each would cost a bot 5 KB.
    class Arguments(Protocol):
        """The arguments and results of a method: names to signatures."""

        @property
        def takes(self) -> dict[str, str]:
            """Its arguments."""

        @property
        def returns(self) -> dict[str, str]:
            """Its results."""


def introspection(interfaces: Iterable[type[Interface]], children: Iterable[str] = ()) -> str:
    """The document that describes a node with these interfaces and child nodes, standard interfaces left out."""
    return node(
        (describe(each.interface, each.methods, each.properties, each.signals) for each in interfaces), children
    )


def node(interfaces: Iterable[str], children: Iterable[str]) -> str:
    """The document for a node, of described interfaces and the names of its child nodes."""
    nodes = (f' <node name="{name}"/>\n' for name in children)
    return f"{_DOCTYPE}<node>\n{''.join(interfaces)}{''.join(nodes)}</node>\n"


def describe(
    name: str,
    methods: Mapping[str, Arguments],
    properties: Mapping[str, str],
    signals: Mapping[str, Mapping[str, str]],
) -> str:
    """The <interface> element of an interface."""
    parts = [f' <interface name="{name}">\n']
    for member, arguments in methods.items():
        parts.append(f'  <method name="{member}">\n')
        parts.extend(_arg(arg, kind, ' direction="in"') for arg, kind in arguments.takes.items())
        parts.extend(_arg(arg, kind, ' direction="out"') for arg, kind in arguments.returns.items())
        parts.append("  </method>\n")
    for member, kind in properties.items():
        parts.append(f'  <property name="{member}" type="{kind}" access="read">\n')
        parts.append('   <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="true"/>\n')
        parts.append("  </property>\n")
    for member, args in signals.items():
        parts.append(f'  <signal name="{member}">\n')
        parts.extend(_arg(arg, kind, "") for arg, kind in args.items())
        parts.append("  </signal>\n")
    parts.append(" </interface>\n")
    return "".join(parts)


def _arg(name: str, kind: str, direction: str) -> str:
    return f'   <arg name="{name}" type="{kind}"{direction}/>\n'
