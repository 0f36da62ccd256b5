"""All meshes in one process, without systemd and D-Bus: `python3 -m ravesvc.single`, or `ravesvc.BotManager`.

Api, rooms, bots, plan, blocklist and store are those of the service. What it lacks is the service's isolation: an
exception ends one room at most, but a process that is killed, or hangs, takes all of them along.
"""
