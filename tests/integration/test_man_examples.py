"""Every example of the manual pages is executed here, page by page, in the order in which they stand there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.integration import manual
from tests.integration.conftest import Site
from tests.integration.mongo import DATABASE_FILE, Mongo

PAGES = {name: blocks for name, source in manual.pages().items() if (blocks := manual.examples(source))}

# What is no shell: the file that it is an example of, and what is typed then.
FILES = {"rave.yaml.5": ("/etc/rave/rave.yaml", "ravectl config check")}

# An editor that saves what lies in /root under the name of the file.
EDITOR = '#!/bin/sh\ncp -p "/root/$(basename "$1")" "$1"\n'


def operate(site: Site) -> None:
    """Before ravectl(1): a bot in a mesh, links that are followed at once, what an old bot leaves, and MongoDB."""
    site.run_fleet(1)
    site.control.option("confirm", "0")
    site.sh("install -d /opt/rave-bot/config")
    site.sh("rave-simulator credentials > /opt/rave-bot/config/credentials.json")
    empty = json.dumps({"blockedMeshes": {}})
    site.machine.run(["tee", "/opt/rave-bot/config/blocklist.json"], input=empty)
    mongo = Mongo(site)
    mongo.start()
    mongo.configure()
    site.sh(f"mv {DATABASE_FILE} /root/")
    site.machine.run(["install", "-m", "755", "/dev/stdin", "/usr/local/bin/editor"], input=EDITOR)


def run_one(site: Site) -> None:
    """Before most pages: a bot in a mesh."""
    site.run_fleet(1)


def nothing(_: Site) -> None:
    """Before rave-simulator(8), which begins at the beginning, and ravesvc-dev(1), which has a room of its own."""


PREPARED: dict[str, Callable[[Site], None]] = {
    "ravectl.1": operate,
    "rave-simulator.8": nothing,
    "ravesvc-dev.1": nothing,
}

# What has to be seen in the end.
SEEN = {
    "ravectl.1": "The store is replaced: 0 admins, 1 command permission.",
    "rave-simulator.8": "Logged in.",
    "ravesvc-dev.1": "Botty> Hello, Bob!",
    "org.ravesvc.Rave1.5": "1 mesh, 1 connected",
    "rave-mesh.8": "Connected to",
    "rave-orchestrator.8": "Nothing is outdated.",
    "rave.yaml.5": "",
}


@pytest.fixture
def tidy(site: Site) -> Iterator[Site]:
    yield site
    site.sh("systemctl stop mongod rave-orchestrator.service rave-meshes.target || true")
    site.sh(
        "rm -rf /opt/rave-bot /usr/local/bin/editor /etc/rave/commands.d/greet.py /root/greet.py /root/*.json"
        " /var/lib/mongodb/*"
    )


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page(tidy: Site, page: str) -> None:
    site = tidy
    PREPARED.get(page, run_one)(site)
    said = ""
    for block in PAGES[page]:
        if page in FILES:
            file, command = FILES[page]
            site.machine.run(["tee", file], input=block)
            block = command
        said += site.sh(f"cd /root\n{block}", timeout=120)
    assert SEEN[page] in said, said
