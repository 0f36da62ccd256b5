"""Interfaces of objects on the bus: methods, properties and signals, declared once and checked against that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from ravesvc.bus.message import Variant, check, default_value
from ravesvc.common.coalesced import Coalesced
from ravesvc.errors import Code, RaveError

PROPERTIES_INTERFACE = "org.freedesktop.DBus.Properties"


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """Who calls what: `sender` is the caller's unique name, `interactive` whether polkit may ask the caller."""

    sender: str
    interactive: bool
    path: str
    member: str


class Authorizer(Protocol):
    """Returns if the call may use a method with this polkit action, else raises `RaveError` (AccessDenied)."""

    def __call__(self, call: Call, action: str | None, /) -> Awaitable[None]:
        """Decide."""


class Emit(Protocol):
    """Sends a signal."""

    def __call__(self, path: str, interface: str, member: str, signature: str, *body: Any) -> None:
        """Send it."""


A = TypeVar("A", bound=Callable[..., Awaitable[None]])
F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])


def handles_missing_action(authorizer: A) -> A:
    """Mark an authorizer that also decides (with action None) on methods without an action.

    With any other authorizer such methods are refused: a method whose action was forgotten must not be open to all.
    """
    authorizer._handles_missing_action = True  # type: ignore[attr-defined]
    return authorizer


@handles_missing_action
async def allow_all(call: Call, action: str | None) -> None:
    """The authorizer that allows every call: for interfaces whose callers the bus policy restricts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """A method as declared. `takes` and `returns` map argument names to signatures."""

    name: str
    takes: dict[str, str]
    returns: dict[str, str]
    action: str | None
    function: Callable[..., Coroutine[Any, Any, Any]]


def method(
    *, takes: dict[str, str] | None = None, returns: dict[str, str] | None = None, action: str | None = None
) -> Callable[[F], F]:
    """Export a coroutine method of an `Interface`, under its name in CamelCase.

    It is called with a `Call` and the arguments, and returns nothing, one value, or a tuple, as `returns` says.
    `action` is the polkit action that the authorizer gets. A `RaveError` becomes an error of our names; any other
    exception is logged and reaches the caller as Internal. Descriptors in arguments are closed after the method, and
    so is one that it returns as a value of its own.
    """

    def declare(function: F) -> F:
        name = "".join(part.capitalize() for part in function.__name__.split("_"))
        function._method = Method(  # type: ignore[attr-defined]
            name=name, takes=takes or {}, returns=returns or {}, action=action, function=function
        )
        return function

    return declare


class Interface:
    """One interface of one object. Subclasses declare; an instance lives at one path of one bus."""

    interface: ClassVar[str]
    """Its name, such as org.ravesvc.Rave1.Mesh."""
    properties: ClassVar[dict[str, str]] = {}
    """Name to signature. All are read-only and announce their changes; 0, "" or [] until set."""
    signals: ClassVar[dict[str, dict[str, str]]] = {}
    """Name to arguments, each with its signature."""
    methods: ClassVar[dict[str, Method]] = {}
    """Collected from the methods marked with `method`."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        functions = [function for base in reversed(cls.__mro__) for function in vars(base).values()]
        declared = [function._method for function in functions if hasattr(function, "_method")]
        cls.methods = {each.name: each for each in declared}
        for signature in cls.properties.values():
            check(signature, default_value(signature))

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer
        self._values = {name: default_value(kind) for name, kind in self.properties.items()}
        self._announcing = Coalesced(self._announce_changes)
        self._before: dict[str, Any] = {}
        self._path = ""
        self._emit: Emit | None = None

    def get(self, name: str) -> Any:
        """The value of a property; KeyError if none has that name."""
        return self._values[name]

    def set(self, **values: Any) -> None:
        """Set properties by name, all or none: KeyError for an unknown name, ValueError for a wrong type.

        Real changes of one turn of the event loop are announced in one PropertiesChanged, values that are the same
        again by then are not. The caller must not change a list or dict after passing it.
        """
        for name, value in values.items():
            check(self.properties[name], value)
        for name, value in values.items():
            if self._values[name] != value:
                self._record_change(name)
                self._values[name] = value

    def emit(self, signal: str, *args: Any) -> None:
        """Send a declared signal, after the property changes made so far; ValueError if `args` don't fit it.

        Does nothing while the object is not on the bus.
        """
        signature = "".join(self.signals[signal].values())
        if self._emit:
            self._announce_changes()
            self._emit(self._path, self.interface, signal, signature, *args)

    async def authorize(self, call: Call, action: str | None) -> None:
        """Called before every method; raises `RaveError` (AccessDenied) unless the call is allowed."""
        if action is None and not getattr(self._authorizer, "_handles_missing_action", False):
            raise RaveError(Code.ACCESS_DENIED, f"{call.member} is open to no caller")
        await self._authorizer(call, action)

    def values(self) -> dict[str, Variant]:
        """All properties, as the a{sv} of D-Bus."""
        return {name: Variant(kind, self._values[name]) for name, kind in self.properties.items()}

    def attach(self, path: str, emit: Emit) -> None:
        """Called when the object is exported."""
        self._path, self._emit = path, emit
        self._before.clear()

    def detach(self) -> None:
        """Called when the object is no longer exported."""
        self._emit = None

    @property
    def attached(self) -> bool:
        """Whether it is exported."""
        return self._emit is not None

    def _record_change(self, name: str) -> None:
        if self._emit:
            self._announcing.schedule()
        self._before.setdefault(name, self._values[name])

    def _announce_changes(self) -> None:
        before, self._before = self._before, {}
        changed = {
            name: Variant(self.properties[name], self._values[name])
            for name in before
            if before[name] != self._values[name]
        }
        if changed and self._emit:
            self._emit(self._path, PROPERTIES_INTERFACE, "PropertiesChanged", "sa{sv}as", self.interface, changed, [])
