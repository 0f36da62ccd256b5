"""A client of the running service: calls, signals, and failures in words for operators.

Event loop and bus are imported when a command connects: help, version and commands that need no service start in a
third of the time without them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ravesvc import names
from ravesvc.errors import Code, RaveError

if TYPE_CHECKING:
    import asyncio

    from ravesvc.bus import Bus, SignalMessage
    from ravesvc.ctl.operations.running_bots import RunningBot

T = TypeVar("T")

_DAEMON = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_PROPERTIES = "org.freedesktop.DBus.Properties"
_OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
_ERROR = "org.freedesktop.DBus.Error."
_GONE = tuple(f"{_ERROR}{why}" for why in ("ServiceUnknown", "NameHasNoOwner", "NoReply"))
# The user may have to type a password first, for which the service waits 120 s, and a mail may take long to be sent.
_CALL_TIMEOUT_S = 300.0


class Service:
    """A connection to the service. It is read only while one of its methods runs."""

    def __init__(self, runner: asyncio.Runner, bus: Bus, call_timeout_s: float) -> None:
        self._runner = runner
        self._bus = bus
        self._call_timeout_s = call_timeout_s

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine that uses the methods below; raises KeyboardInterrupt if a signal has cancelled it."""
        import asyncio

        try:
            return self._runner.run(coroutine)
        except asyncio.CancelledError as e:
            raise KeyboardInterrupt from e

    def call(
        self, member: str, signature: str = "", *arguments: Any, interface: str = names.MANAGER_INTERFACE
    ) -> list[Any]:
        """Call a method of the service's main object and return what it returns; raises as `ask` does."""
        return self.run(self.ask(member, signature, *arguments, interface=interface))

    async def ask(
        self, member: str, signature: str = "", *arguments: Any, interface: str = names.MANAGER_INTERFACE
    ) -> list[Any]:
        """As `call`, in a coroutine.

        Raises `RaveError`: NotRunning if the service does not run, or has gone away; AccessDenied; else the error of
        the service. Polkit may ask the user for a password.
        """
        return await self._ask(names.MANAGER_PATH, interface, member, signature, *arguments)

    async def _ask(self, path: str, interface: str, member: str, signature: str = "", *arguments: Any) -> list[Any]:
        from ravesvc.bus import ALLOW_INTERACTIVE_AUTHORIZATION

        try:
            return await self._bus.call(
                names.BUS_NAME,
                path,
                interface,
                member,
                signature,
                *arguments,
                timeout=self._call_timeout_s,
                flags=ALLOW_INTERACTIVE_AUTHORIZATION,
            )
        except RaveError as e:
            raise (_bus_lost() if self._bus.lost.done() else _for_operator(e)) from e

    def properties(self, path: str, interface: str) -> dict[str, Any]:
        """The properties of an object of the service; raises as `ask` does."""
        (values,) = self.run(self._ask(path, _PROPERTIES, "GetAll", "s", interface))
        return dict(values)

    async def on_change(self, handler: Callable[[], None]) -> None:
        """Call `handler` whenever a property of the service or of a mesh changes, or a mesh comes or goes."""
        for interface, where in (
            (_PROPERTIES, f"path_namespace='{names.MANAGER_PATH}'"),
            (_OBJECT_MANAGER, f"path='{names.MANAGER_PATH}'"),
        ):
            rule = f"type='signal',sender='{names.BUS_NAME}',interface='{interface}',{where}"
            await self._match(rule, lambda _: handler())

    async def on_signal(
        self, member: str, handler: Callable[..., None], *, interface: str = names.MANAGER_INTERFACE
    ) -> None:
        """Call `handler` with the arguments of each signal of the service's main object with this name.

        Signals and replies to calls are handled in the order in which the bus delivers them: the handler of a signal
        that came before a reply runs before the caller goes on, that of a later signal afterwards.
        """
        sender, path = names.BUS_NAME, names.MANAGER_PATH
        rule = f"type='signal',sender='{sender}',path='{path}',interface='{interface}',member='{member}'"
        await self._match(rule, lambda signal: handler(*signal.body))

    async def on_end(self, handler: Callable[[RaveError], None]) -> None:
        """Call `handler` when the service goes away, or the bus; with a NotRunning that says so."""
        from ravesvc.bus import name_changes

        # The service ran when we connected, so any change means that it has gone.
        await self._match(name_changes(names.BUS_NAME), lambda _: handler(_service_gone()))
        self._bus.lost.add_done_callback(lambda _: handler(_bus_lost()))

    async def _match(self, rule: str, handler: Callable[[SignalMessage], None]) -> None:
        import asyncio

        loop = asyncio.get_running_loop()

        def later(signal: SignalMessage) -> None:
            # One turn of the event loop later, because the reply to a call takes one to reach its caller.
            loop.call_soon(handler, signal)

        try:
            await self._bus.match(rule, later)
        except RaveError as e:
            raise _bus_lost() from e


@contextmanager
def connected(*, call_timeout_s: float | None = None) -> Iterator[Service]:
    """A connection to the running service, on which each call has a time limit.

    Raises `RaveError` (NotRunning) if the service does not run, with the reason by systemd.
    """
    with _on_bus() as (runner, bus):
        runner.run(_require_service(bus))
        yield Service(runner, bus, _CALL_TIMEOUT_S if call_timeout_s is None else call_timeout_s)


def running_bots() -> list[RunningBot]:
    """The bots that systemd knows, whether the service runs or not. Raises `RaveError` (NotRunning) without a bus."""
    from ravesvc.ctl.operations import running_bots as systemd

    with _on_bus() as (runner, bus):
        return runner.run(systemd.bots(bus))


@contextmanager
def _on_bus() -> Iterator[tuple[asyncio.Runner, Bus]]:
    import asyncio

    from ravesvc.bus import Bus

    with asyncio.Runner() as runner:
        try:
            bus = runner.run(Bus.connect())
        except RaveError as e:
            hint = "systemctl status dbus may say why"
            raise RaveError(Code.NOT_RUNNING, "the system bus can't be reached", hint=hint) from e
        try:
            yield runner, bus
        finally:
            runner.run(bus.close())


async def _require_service(bus: Bus) -> None:
    """Raise `RaveError` (NotRunning), with the reason, unless the service runs."""
    try:
        (running,) = await bus.call(*_DAEMON, "NameHasOwner", "s", names.BUS_NAME)
    except RaveError as e:
        raise _bus_lost() from e
    if not running:
        from ravesvc.ctl.operations import absence
        from ravesvc.ctl.operations import running_bots as systemd

        raise absence.explain(await systemd.service_unit(bus))


def service_error(code: str, message: str, incident: str = "") -> RaveError:
    """An error that the service itself has reported, so the service runs, even if the code is NotRunning."""
    known = Code(code) if code in set(Code) else Code.INTERNAL
    return RaveError(known, message, incident=incident, from_service=1)


def _service_gone() -> RaveError:
    hint = "journalctl -u rave-orchestrator says why"
    return RaveError(Code.NOT_RUNNING, "rave-orchestrator has gone away meanwhile", hint=hint)


def _bus_lost() -> RaveError:
    hint = "systemctl status dbus may say why"
    return RaveError(Code.NOT_RUNNING, "the connection to the system bus is lost", hint=hint)


def _for_operator(error: RaveError) -> RaveError:
    """A failed call in words for an operator who need not know D-Bus."""
    name, said = (str(error.attributes.get(key, "")) for key in ("error_name", "said"))
    # It ran when we connected.
    if name in _GONE:
        return _service_gone()
    if error.code is Code.ACCESS_DENIED:
        hint = "try as root, or with sudo"
        if not said:
            # The bus refused the call before it reached the service.
            hint += "; members of the groups sudo, adm and rave-monitor may look"
        return RaveError(Code.ACCESS_DENIED, "you may not do that", hint=hint)
    if said and name.startswith(names.ERROR_PREFIX):
        return service_error(error.code, said, error.incident)
    if error.code is Code.TIMEOUT:
        hint = "journalctl -u rave-orchestrator may say why"
        return RaveError(Code.TIMEOUT, "rave-orchestrator does not answer", hint=hint)
    hint = "after an upgrade: systemctl restart rave-orchestrator"
    return RaveError(error.code, "rave-orchestrator does not understand this ravectl", hint=hint, error_name=name)
