"""The running service as ravectl sees it: calls, signals, and failures in the words of whoever asked.

Event loop and bus are imported when somebody connects: without them help, version and whatever needs no service are
there in a third of the time.
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
_NOBODY = (f"{_ERROR}ServiceUnknown", f"{_ERROR}NameHasNoOwner")
# Somebody may have to type a password first (for that the service gives 120 s), and a mail may be slow to be sent.
_PATIENCE = 300.0


class Service:
    """A connection to the service. Outside of its methods nothing is read from it."""

    def __init__(self, runner: asyncio.Runner, bus: Bus, patience_s: float) -> None:
        self._runner = runner
        self._bus = bus
        self._patience_s = patience_s

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine that awaits what is below. KeyboardInterrupt is raised when a signal has cancelled it."""
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
        """The same in a coroutine.

        Raises `RaveError`: NotRunning when there is no service, or none any more; AccessDenied; else what the
        service says. Polkit may ask the user for a password.
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
                timeout=self._patience_s,
                flags=ALLOW_INTERACTIVE_AUTHORIZATION,
            )
        except RaveError as e:
            raise (_lost() if self._bus.lost.done() else _in_words(e)) from e

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

    async def on_signal(self, member: str, handler: Callable[..., None]) -> None:
        """Call `handler` with the arguments of each signal of the manager with this name.

        Signals and the replies to calls keep the order that the bus has brought them in: what came before a reply is
        told before whoever has called goes on, what came after it afterwards.
        """
        name, path, interface = names.BUS_NAME, names.MANAGER_PATH, names.MANAGER_INTERFACE
        rule = f"type='signal',sender='{name}',path='{path}',interface='{interface}',member='{member}'"
        await self._match(rule, lambda signal: handler(*signal.body))

    async def on_end(self, handler: Callable[[RaveError], None]) -> None:
        """Call `handler` when the service goes away, or the bus; with a NotRunning that says so."""
        from ravesvc.bus import name_changes

        # It was there when we began.
        await self._match(name_changes(names.BUS_NAME), lambda _: handler(_gone()))
        self._bus.lost.add_done_callback(lambda _: handler(_lost()))

    async def _match(self, rule: str, handler: Callable[[SignalMessage], None]) -> None:
        import asyncio

        loop = asyncio.get_running_loop()

        def later(signal: SignalMessage) -> None:
            # A turn of the event loop, because the reply to a call needs one to reach its caller.
            loop.call_soon(handler, signal)

        try:
            await self._bus.match(rule, later)
        except RaveError as e:
            raise _lost() from e


@contextmanager
def connected(*, patience_s: float | None = None) -> Iterator[Service]:
    """The service that runs, with the time that a call may take.

    Raises `RaveError` (NotRunning) when there is none, with what systemd knows of why.
    """
    with _on_bus() as (runner, bus):
        runner.run(_look(bus))
        yield Service(runner, bus, _PATIENCE if patience_s is None else patience_s)


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


async def _look(bus: Bus) -> None:
    """Whether anybody is there is told before anything is asked for."""
    try:
        (running,) = await bus.call(*_DAEMON, "NameHasOwner", "s", names.BUS_NAME)
    except RaveError as e:
        raise _lost() from e
    if not running:
        from ravesvc.ctl.operations import absence
        from ravesvc.ctl.operations import running_bots as systemd

        raise absence.explain(await systemd.service_unit(bus))


def told(code: str, message: str) -> RaveError:
    """A failure that the service itself tells; so it runs, whatever it is that does not."""
    return RaveError(Code(code) if code in set(Code) else Code.INTERNAL, message, told="by the service")


def _not_running() -> RaveError:
    hint = "systemctl start rave-orchestrator"
    return RaveError(Code.NOT_RUNNING, "rave-orchestrator is not running", hint=hint)


def _gone() -> RaveError:
    hint = "journalctl -u rave-orchestrator says why"
    return RaveError(Code.NOT_RUNNING, "rave-orchestrator has gone away meanwhile", hint=hint)


def _lost() -> RaveError:
    hint = "systemctl status dbus may say why"
    return RaveError(Code.NOT_RUNNING, "the connection to the system bus is lost", hint=hint)


def _in_words(error: RaveError) -> RaveError:
    """A failed call, told to somebody who need not have heard of D-Bus."""
    name, said = (str(error.attributes.get(key, "")) for key in ("error_name", "said"))
    if name in _NOBODY:
        return _not_running()
    if name == f"{_ERROR}NoReply":
        return _gone()
    if error.code is Code.ACCESS_DENIED:
        hint = "try as root, or with sudo"
        if not said:
            # It was the bus that refused, before the service saw the call.
            hint += "; members of the groups sudo, adm and rave-monitor may look"
        return RaveError(Code.ACCESS_DENIED, "you may not do that", hint=hint)
    if said and name.startswith(names.ERROR_PREFIX):
        return told(error.code, said)
    if error.code is Code.TIMEOUT:
        hint = "journalctl -u rave-orchestrator may say why"
        return RaveError(Code.TIMEOUT, "rave-orchestrator does not answer", hint=hint)
    hint = "after an upgrade: systemctl restart rave-orchestrator"
    return RaveError(error.code, "rave-orchestrator does not understand this ravectl", hint=hint, error_name=name)
