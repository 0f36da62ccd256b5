"""Scenarios are coroutines with a `world`, in virtual time; each runs over all worlds."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.scenarios.service_world import ServiceWorld
from tests.unit.scenarios.single_world import SingleWorld
from tests.unit.scenarios.surroundings import Logged
from tests.unit.scenarios.virtual_time import run


# The rules are the same, and the bus takes its time: `make check` leaves the service out.
@pytest.fixture(params=[pytest.param("service", marks=pytest.mark.slow), "single"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_bus: str
) -> ServiceWorld | SingleWorld:
    if request.param == "service":
        return ServiceWorld(tmp_path, monkeypatch, shared_bus)
    return SingleWorld(tmp_path, monkeypatch)


@pytest.fixture
def logged() -> Iterator[Logged]:
    handler = Logged()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a scenario, and shut its world down."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def body() -> None:
        world = arguments["world"]
        try:
            await pyfuncitem.obj(**arguments)
        finally:
            await world.close()
            await world.shut_down()

    run(body())
    return True
