"""The tree of exported objects, and the standard interfaces that every one of them has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ravesvc.bus import errors
from ravesvc.bus.errors import DBusErrorReply
from ravesvc.bus.header import Header
from ravesvc.bus.interface import PROPERTIES_INTERFACE, Emit, Interface, Method
from ravesvc.bus.introspection import describe, node
from ravesvc.bus.message import Message, Variant, is_object_path

_INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"
_OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
_PEER = "org.freedesktop.DBus.Peer"


class Standard(NamedTuple):
    """A method of a standard interface; `answer` returns the body of the reply, or raises `DBusErrorReply`."""

    takes: dict[str, str]
    returns: dict[str, str]
    answer: Callable[[ObjectTree, Message], list[Any]]


Target = tuple[Interface, Method] | Standard


class ObjectTree:
    """The objects of one bus connection by path, and their standard interfaces."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._objects: dict[str, dict[str, Interface]] = {}
        self.manager: str | None = None
        """The path whose ObjectManager speaks for the objects below it."""

    def add(self, path: str, interfaces: tuple[Interface, ...]) -> None:
        """Put interfaces at a path and announce them; ValueError if one is exported already, here or elsewhere."""
        names = [each.interface for each in interfaces]
        here = self._objects.get(path, {})
        if not is_object_path(path) or not interfaces:
            raise ValueError(f"cannot export {names} at {path!r}")
        if len(set(names)) < len(names) or here.keys() & set(names):
            raise ValueError(f"{path} has two of one interface in {names}")
        if any(each.attached for each in interfaces):
            raise ValueError(f"one of {names} is exported already: an instance has one path")
        self._objects[path] = here | dict(zip(names, interfaces, strict=True))
        for each in interfaces:
            each.attach(path, self._emit)
        if self._managed(path):
            content = {each.interface: each.values() for each in interfaces}
            self._announce("InterfacesAdded", "oa{sa{sv}}", path, content)

    def remove(self, path: str) -> None:
        """Remove all interfaces of a path and announce that; KeyError if there are none."""
        gone = self._objects.pop(path)
        for each in gone.values():
            each.detach()
        if self._managed(path):
            self._announce("InterfacesRemoved", "oas", path, list(gone))

    def route(self, call: Header) -> Target:
        """The method that a call asks for; raises `DBusErrorReply` if there is none or its arguments don't fit."""
        found = self._find(call)
        takes = (found if isinstance(found, Standard) else found[1]).takes
        if call.signature != "".join(takes.values()):
            raise DBusErrorReply(
                errors.INVALID_ARGS,
                f"{call.member} takes ({''.join(takes.values())}), not ({call.signature})",
            )
        return found

    def _find(self, call: Header) -> Target:
        standard = self._standard(call.path)
        exported = self._objects.get(call.path, {})
        if call.interface and call.interface not in exported and call.interface not in standard:
            raise DBusErrorReply(errors.UNKNOWN_INTERFACE, f"{call.path} has no interface {call.interface}")
        # A call may leave the interface out; then the first one that has such a member is used.
        for name, interface in exported.items():
            if call.interface in (name, "") and call.member in interface.methods:
                return interface, interface.methods[call.member]
        for name in standard:
            if call.interface in (name, "") and call.member in _STANDARD[name]:
                return _STANDARD[name][call.member]
        raise DBusErrorReply(errors.UNKNOWN_METHOD, f"{call.path} has no method {call.member}")

    def _standard(self, path: str) -> list[str]:
        """The standard interfaces of a path; raises `DBusErrorReply` for a path that is no node of the tree."""
        if path in self._objects:
            names = [_INTROSPECTABLE, _PEER, PROPERTIES_INTERFACE]
        elif path in ("/", self.manager) or any(self._children(path)):
            names = [_INTROSPECTABLE, _PEER]
        else:
            raise DBusErrorReply(errors.UNKNOWN_OBJECT, f"there is no object {path}")
        return [*names, _OBJECT_MANAGER] if path == self.manager else names

    def _below(self, path: str) -> Iterator[str]:
        prefix = path.rstrip("/") + "/"
        return (each for each in self._objects if each.startswith(prefix) and each != prefix)

    def _children(self, path: str) -> list[str]:
        """The names of the child nodes of a path."""
        start = len(path.rstrip("/")) + 1
        nodes = [*self._below(path)]
        if self.manager and self.manager.startswith(path.rstrip("/") + "/") and self.manager != path:
            nodes.append(self.manager)
        return sorted({each[start:].partition("/")[0] for each in nodes})

    def _managed(self, path: str) -> bool:
        return self.manager is not None and path.startswith(self.manager.rstrip("/") + "/") and path != self.manager

    def _announce(self, member: str, signature: str, *body: Any) -> None:
        assert self.manager
        self._emit(self.manager, _OBJECT_MANAGER, member, signature, *body)

    def _introspect(self, call: Message) -> list[Any]:
        own = (describe(i.interface, i.methods, i.properties, i.signals) for i in self._own(call.path))
        standard = (describe(n, _STANDARD[n], {}, _STANDARD_SIGNALS.get(n, {})) for n in self._standard(call.path))
        return [node([*own, *standard], self._children(call.path))]

    def _own(self, path: str) -> list[Interface]:
        return list(self._objects.get(path, {}).values())

    def _managed_objects(self, call: Message) -> list[Any]:
        return [{path: {i.interface: i.values() for i in self._own(path)} for path in self._below(call.path)}]

    def _named(self, path: str, name: str) -> list[Interface]:
        """The interfaces at a path that `name` means: one, none (a standard one), or all (an empty name)."""
        if name in self._standard(path):
            return []
        if name and name not in self._objects[path]:
            raise DBusErrorReply(errors.UNKNOWN_INTERFACE, f"{path} has no interface {name}")
        return [each for each in self._own(path) if name in (each.interface, "")]

    def _get(self, call: Message) -> list[Any]:
        interface, name = call.body[0], call.body[1]
        for each in self._named(call.path, interface):
            if name in each.properties:
                return [Variant(each.properties[name], each.get(name))]
        raise DBusErrorReply(errors.UNKNOWN_PROPERTY, f"{interface or call.path} has no property {name}")

    def _get_all(self, call: Message) -> list[Any]:
        values: dict[str, Variant] = {}
        for each in self._named(call.path, call.body[0]):
            values |= each.values()
        return [values]

    def _set(self, call: Message) -> list[Any]:
        self._get(call)
        raise DBusErrorReply(errors.PROPERTY_READ_ONLY, f"{call.body[1]} is read-only")


def _ping(_objects: ObjectTree, _call: Message) -> list[Any]:
    return []


def _machine_id(_objects: ObjectTree, _call: Message) -> list[Any]:
    try:
        return [Path("/etc/machine-id").read_text().strip()]
    except OSError as e:
        raise DBusErrorReply(errors.FAILED, "this machine has no id") from e


_PROPERTY = {"interface_name": "s", "property_name": "s"}
_STANDARD: dict[str, dict[str, Standard]] = {
    _INTROSPECTABLE: {"Introspect": Standard({}, {"xml_data": "s"}, ObjectTree._introspect)},
    _PEER: {
        "Ping": Standard({}, {}, _ping),
        "GetMachineId": Standard({}, {"machine_uuid": "s"}, _machine_id),
    },
    PROPERTIES_INTERFACE: {
        "Get": Standard(_PROPERTY, {"value": "v"}, ObjectTree._get),
        "GetAll": Standard({"interface_name": "s"}, {"properties": "a{sv}"}, ObjectTree._get_all),
        "Set": Standard({**_PROPERTY, "value": "v"}, {}, ObjectTree._set),
    },
    _OBJECT_MANAGER: {
        "GetManagedObjects": Standard({}, {"objects": "a{oa{sa{sv}}}"}, ObjectTree._managed_objects),
    },
}
_STANDARD_SIGNALS = {
    PROPERTIES_INTERFACE: {
        "PropertiesChanged": {
            "interface_name": "s",
            "changed_properties": "a{sv}",
            "invalidated_properties": "as",
        },
    },
    _OBJECT_MANAGER: {
        "InterfacesAdded": {"object_path": "o", "interfaces_and_properties": "a{sa{sv}}"},
        "InterfacesRemoved": {"object_path": "o", "interfaces": "as"},
    },
}
