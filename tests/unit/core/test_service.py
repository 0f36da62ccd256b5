"""Other options while the service runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ravesvc.bot.plugins import Sources
from ravesvc.config import options, rave_yaml, table
from ravesvc.config.options import Config
from ravesvc.core.host_record import this_host
from ravesvc.core.service import BotService
from ravesvc.single.task_runner import TaskRunner
from tests.unit.config.option_values import sample


def service_with(settings: Config) -> BotService:
    def unused(*_arguments: object) -> Any:
        raise AssertionError("no bot is started here")

    commands = Sources(settings.state_path.parent, frozenset(), ())
    runner = TaskRunner(settings, parent=unused, session=lambda: None, commands=commands)
    return BotService(settings, runner, this_host(), Path("/nonexistent"))


def in_force(service: BotService) -> dict[str, object]:
    """What each part of the service goes by."""
    return {
        "lang": service.rave._settings.lang,
        "login": service.account.settings.lang,
        "mesh_mode": service.rave.scope,
        "limit": service.rave._settings.limit,
        "discovery_interval": service.discovery.interval,
        "bots": service._bot_limits(),
        "starts_per_minute": service.starts._pace._full,
        "history_retention": service.memory.retention,
        "blocklist_duration": service.blocklist._duration_ms,
        "rules": service.requests._limit.rules,
        "status_poll_interval": (service.reconciler.health._interval, service.reconciler.health._silence),
        # All that bots get.
        "edition": service.roll.edition,
    }


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return dataclasses.replace(
        Config(),
        state_path=tmp_path / "state.db",
        blocklist_persist_path=tmp_path / "blocklist.json",
        credentials_path=tmp_path / "credentials.json",
    )


@pytest.mark.parametrize("name", sorted(options.RELOADED))
async def test_an_option_that_a_reload_takes_over_is_in_force_at_once(name: str, settings: Config) -> None:
    (entry,) = [each for each in options.TABLE if each.name == name]
    read, _ = rave_yaml.read(sample(entry)[0], "rave.yaml")
    assert read
    changed = table.reloaded(settings, read)
    before = service_with(settings)
    old = in_force(before)
    before.apply(changed)
    assert in_force(before) == in_force(service_with(changed))
    assert in_force(before) != old
