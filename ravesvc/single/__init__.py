"""All meshes in one process, without systemd and D-Bus: `python3 -m ravesvc.single`, or `ravesvc.BotManager`.

It runs the same code as the service: Rave's interface, bots, plan, blocklist and store. But its bots are not isolated
from each other. An exception ends the bot of one room at most; if the process is killed or hangs, all bots stop.
"""
