from __future__ import annotations

from ravesvc.bot.built_in_commands import built_in_commands
from tests.unit.bot_under_test import BotUnderTest
from tests.unit.simulator_server import Served

MESH = "11111111-2222-4333-8444-555555555555"


async def test_they_are_all_commands_that_a_bot_has(served: Served) -> None:
    bot = BotUnderTest(served, MESH, 1, None)
    assert built_in_commands().owners() == bot.worker._bot._registry.owners()
    assert built_in_commands().owners()["forgetme"] == "the bot itself"
