"""Dice: `?roll` rolls one with six sides, `?roll 20` one with twenty, `?roll 2d6+1` two with six sides, and adds one.

To enable it in all rooms, as root:

    ln -s /usr/share/rave-orchestrator/plugins/dice.py /etc/rave/commands.d/
    ravectl refresh
"""

import random
import re

from ravesvc.commands import UserError, command, fold

MAX_DICE = 20
MAX_SIDES = 1000
MAX_BONUS = 1000
MAX_TEXT_CHARS = 30
# How many dice, how many sides they have, and what is added: 2d6+1. The sides alone are one die.
DICE = re.compile(r"(?:([0-9]*)d)?([0-9]+)([+-][0-9]+)?")


@command("roll", "Rolls dice.", group="games", example="2d6+1", cooldown=2)
async def roll(context, *, dice: str = "1d6"):
    """Roll, and show each die and the sum."""
    count, sides, bonus = read(dice)
    rolled = [random.randint(1, sides) for _ in range(count)]
    name = await context.display_name()
    if count == 1 and not bonus:
        await context.reply(f"{name} rolls a {rolled[0]}")
        return
    parts = " + ".join(map(str, rolled))
    if bonus:
        parts += f" {'+' if bonus > 0 else '-'} {abs(bonus)}"
    await context.reply(f"{name} rolls {parts} = {sum(rolled) + bonus}")


def read(text):
    """How many dice a text asks for, how many sides they have, and what is added. Raises UserError."""
    found = DICE.fullmatch(fold(text).replace(" ", "")) if len(text) <= MAX_TEXT_CHARS else None
    if not found:
        raise UserError("these are no dice", hint="write 2d6+1 for two dice with six sides, and one more")
    count, sides, bonus = int(found[1] or 1), int(found[2]), int(found[3] or 0)
    if not 1 <= count <= MAX_DICE:
        raise UserError(f"I have 1 to {MAX_DICE} dice")
    if not 2 <= sides <= MAX_SIDES:
        raise UserError(f"my dice have 2 to {MAX_SIDES} sides")
    if abs(bonus) > MAX_BONUS:
        raise UserError(f"I add or take away at most {MAX_BONUS}")
    return count, sides, bonus
