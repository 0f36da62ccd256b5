"""A throw-away Debian 13 with systemd as PID 1: to build packages in, to install them, to run tests and demos.

    root.py      the cached file systems, made by mmdebstrap
    machine.py   one running machine: run commands, copy files, read logs
    keeper.py    the process that holds a machine's mounts and control group, and clears them away
    build.py     from the checkout to tested packages
    host.py      what the host must have
    cli.py       the commands

Python's standard library is all it needs, so it starts on a machine where nothing is installed yet.
"""
