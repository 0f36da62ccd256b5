"""What every unit test gets: a look for left-overs, a way to run coroutines, and a private bus daemon."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import hypothesis
import pytest

from ravesvc.common import dates
from ravesvc.simulator.state_dir import StateDir
from tests.unit import marking
from tests.unit.authority import Authority, make_authority

if TYPE_CHECKING:
    from tests.unit.fake_manager import FakeManager
    from tests.unit.mongod import Mongod
    from tests.unit.parent_site import Site
    from tests.unit.simulator_server import Served

# How long an example takes says nothing on a busy machine. New examples are for developers to find; a run of CI is to
# tell about the change, the same today and tomorrow.
hypothesis.settings.register_profile(
    "ravesvc",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize="CI" in os.environ,
    database=None,
)
hypothesis.settings.load_profile("ravesvc")

T = TypeVar("T")

BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="false"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


@pytest.fixture
def utc() -> Iterator[None]:
    """The zone of this process, and of a ravectl that runs in it, is UTC."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        patch.setattr(dates, "use_zone_of_the_machine", lambda: None)
        time.tzset()
        yield
    time.tzset()


def use_dbus_fast() -> None:
    """Put dbus_fast in the place of dbus_next, under all its names."""
    import dbus_fast._private.unmarshaller
    import dbus_fast.aio  # noqa: F401 - for its entry in sys.modules

    for name, module in list(sys.modules.items()):
        if name == "dbus_fast" or name.startswith("dbus_fast."):
            sys.modules[name.replace("dbus_fast", "dbus_next", 1)] = module


if os.environ.get("RAVESVC_TEST_DBUS") == "dbus_fast":
    use_dbus_fast()


# The packages that hand work to threads: there debug mode finds what touches a loop from a thread of another one. It
# takes a quarter of a test's time.
_WITH_THREADS = frozenset({"api", "blocklist", "common", "core", "doctor", "orchestrator", "single", "store"})

# For each future and callback it notes where it was made: all frames down to those of pytest, and it looks on disk
# whether their files have changed. This many frames are enough to find the place; their lines are read when they are
# printed.
_FRAMES_NOTED = 5


def note_place(
    frames: Iterable[tuple[FrameType, int]],
    *,
    limit: int | None = None,
    lookup_lines: bool = True,
    capture_locals: bool = False,
) -> traceback.StackSummary:
    """In place of traceback.StackSummary.extract; never reads a file."""
    return traceback.StackSummary.from_list(
        traceback.FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name, lookup_line=False)
        for frame, line in itertools.islice(frames, _FRAMES_NOTED)
    )


def note_callback(frame: FrameType | None = None, limit: int | None = None) -> list[tuple[str, int, str, None]]:
    """In place of asyncio.format_helpers.extract_stack, for callbacks; traceback.format_list takes it too."""
    places: list[tuple[str, int, str, None]] = []
    frame = frame or sys._getframe(1)
    while frame and len(places) < _FRAMES_NOTED:
        places.insert(0, (frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, None))
        frame = frame.f_back
    return places


traceback.StackSummary.extract = note_place
asyncio.format_helpers.extract_stack = note_callback  # type: ignore[attr-defined]


def pytest_addoption(parser: pytest.Parser) -> None:
    left_out = ", ".join(marking.LEFT_OUT_OF_QUICK)
    parser.addoption("--quick", action="store_true", help=f"leave out the tests that are marked {left_out}")


def pytest_configure() -> None:
    """Once for all tests, because it takes as long as a small test does."""
    # Whatever the machine's environment says: the servers of the tests are on loopback.
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        os.environ.pop(name, None)
    asyncio.runners._cancel_all_tasks = note_and_cancel  # type: ignore[attr-defined]
    marking.refuse_programs()


def pytest_collection() -> None:
    """Until `pytest_collection_finish` nothing becomes garbage that is worth looking for."""
    gc.disable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out whole files; None is for no answer."""
    if config.getoption("quick") and collection_path.is_file():
        return marking.is_file_left_out_of_quick(collection_path) or None
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before pytest picks those that the command line asks for."""
    for item in items:
        marking.mark(item)
    if config.getoption("quick"):
        left_out = {item for item in items if marking.is_left_out_of_quick(item)}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish() -> None:
    """What there is now stays: the collector need not look through it again with every test."""
    gc.collect()
    gc.freeze()
    # Most of what a test makes goes with its last reference: to look for cycles less often is enough.
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Generator[None, object, object]:
    """Hide from coverage what made-up examples reach: a test with an example of its own has to reach it.

    To watch them would take more than twice their time. (In a worker of pytest-xdist the marker `no_cover` stops one
    tracer of two.)
    """
    tracer = sys.gettrace()
    if hypothesis.is_hypothesis_test(item.obj):
        sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


def run_coroutine(main: Coroutine[Any, Any, T]) -> T:
    """asyncio.run, in debug mode for packages with threads; ends after 60 s whatever happens."""

    async def bounded() -> T:
        # Else debug mode logs what takes long, which on a busy machine is anything.
        asyncio.get_running_loop().slow_callback_duration = 60
        async with asyncio.timeout(60):
            return await main

    return asyncio.run(bounded(), debug=marking.package_under_test() in _WITH_THREADS)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition that nothing tells about; bounded by `run`."""
    while not condition():  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.001)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def test_...` in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    run_coroutine(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}))
    return True


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """For what a test does before or after its loop: `run(anything())` has a loop of its own each time."""
    return run_coroutine


def children() -> set[int]:
    """Our child processes, zombies included."""
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):  # noqa: PTH208 - twice in each test, and pathlib takes its time
        # A thread of a pool may end while we look.
        with suppress(FileNotFoundError), open(f"/proc/self/task/{task}/children", "rb") as file:  # noqa: PTH123
            found.update(map(int, file.read().split()))
    return found


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.daemon}


_tasks_left: list[str] = []
_cancel_all_tasks = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]


def note_and_cancel(loop: asyncio.AbstractEventLoop) -> None:
    """A loop that ends cancels what is left in it, silently; here it tells."""
    _tasks_left.extend(repr(task) for task in asyncio.all_tasks(loop))
    _cancel_all_tasks(loop)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note the test before its first fixture, which may be one of its module."""
    marking.Running.item = item


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Fail a test that leaves tasks, child processes or threads behind."""
    _tasks_left.clear()
    processes_before, threads_before = children(), threads()
    yield
    assert not _tasks_left, f"tasks left behind: {_tasks_left}"
    assert not (children() - processes_before), "child processes left behind"
    assert not (threads() - threads_before), "threads left behind"


class BusDaemon:
    """A private dbus-daemon that allows everything."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "bus"
        self.address = f"unix:path={self.socket}"
        self.config = directory / "bus.conf"
        self.config.write_text(BUS_CONFIG.format(socket=self.socket))
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["dbus-daemon", f"--config-file={self.config}", "--nofork", "--nopidfile", "--print-address"],
            stdout=subprocess.PIPE,
            # It would say READY=1 there as well.
            env={name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"},
        )
        assert self.process.stdout
        self.process.stdout.readline()  # it listens now

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture
def bus_daemon(tmp_path: Path) -> Iterator[BusDaemon]:
    """A fresh bus of its own for one test, which may stop, freeze or kill it."""
    daemon = BusDaemon(tmp_path)
    yield daemon
    daemon.stop()


@pytest.fixture(scope="session")
def shared_bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a bus for all tests, one after another: each leaves it as it was."""
    daemon = BusDaemon(tmp_path_factory.mktemp("bus"))
    yield daemon.address
    daemon.stop()


@pytest.fixture
def bus_address(request: pytest.FixtureRequest, shared_bus: str) -> str:
    """The test's own bus if it has one, and else the one for all."""
    if "bus_daemon" not in request.fixturenames:
        return shared_bus
    daemon: BusDaemon = request.getfixturevalue("bus_daemon")
    return daemon.address


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority, and a certificate from it for localhost and 127.0.0.1."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def simulator_state_dir(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    """The state directory of a simulator, set up."""
    state_dir = StateDir(tmp_path_factory.mktemp("simulator"))
    state_dir.init()
    return state_dir


@pytest.fixture
def served(simulator_state_dir: StateDir, tmp_path: Path) -> Iterator[Served]:
    """A fresh simulator, served over TLS on a random port."""
    from tests.unit.simulator_server import Served

    simulator = Served(simulator_state_dir, tmp_path)
    yield simulator
    simulator.stop()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeManager]:
    """The service manager, as a notifying process knows it."""
    from tests.unit.fake_manager import FakeManager

    fake = FakeManager(tmp_path, monkeypatch)
    yield fake
    fake.close()


@pytest.fixture
@marking.marks_its_tests("process")
def site(
    tmp_path: Path, served: Served, manager: FakeManager, bus_daemon: BusDaemon, monkeypatch: pytest.MonkeyPatch
) -> Site:
    """All that the parent needs to run."""
    from tests.unit.parent_site import Site

    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_daemon.address)
    return Site(tmp_path, served, manager)


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service allows its callers everything, as it does to root, also if root does not run the tests."""
    from ravesvc.orchestrator.dbus.polkit import AccessCheck

    async def allows(*_: Any) -> bool:
        return True

    monkeypatch.setattr(AccessCheck, "_allows", allows)


@pytest.fixture(scope="session")
@marking.marks_its_tests("mongo")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A MongoDB server for all tests: give each one a database of its own."""
    from tests.unit.mongod import plain

    server = plain(tmp_path_factory.mktemp("mongod"))
    yield server
    server.remove()


@pytest.fixture(scope="session")
@marking.marks_its_tests("mongo")
def mongod_auth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """The same, but it asks for a password."""
    from tests.unit.mongod import with_auth

    server = with_auth(tmp_path_factory.mktemp("mongod-auth"))
    yield server
    server.remove()


@pytest.fixture(scope="session")
@marking.marks_its_tests("mongo")
def mongod_replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """The same, as a replica set of one server."""
    from tests.unit.mongod import replica_set

    server = replica_set(tmp_path_factory.mktemp("mongod-replica-set"))
    yield server
    server.remove()
