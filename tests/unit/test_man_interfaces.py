"""The manual page of the D-Bus interfaces has all of them, and what it says of each method."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from ravesvc.errors import Code
from ravesvc.names import PolkitAction
from tests.unit.dbus_xml import manual, writer

WITH_METHODS = ("Manager", "Account", "Permissions", "Store", "Blocklist")
INTERFACES = (*WITH_METHODS, "Mesh")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The XML of all interfaces."""
    found = tmp_path_factory.mktemp("dbus")
    writer.main(found)
    return found


@pytest.fixture(scope="module")
def page(directory: Path) -> str:
    return str(manual.page(directory))


def chapter(page: str, interface: str) -> str:
    return page.split(f"\n.Sh org.ravesvc.Rave1.{interface}\n")[1].split("\n.Sh ")[0]


def described(text: str, member: str) -> str:
    """What stands under a member."""
    return text.split(f"\n.It Sy {member} ")[1].split("\n.It ")[0].split("\n.El")[0]


@pytest.mark.parametrize("interface", INTERFACES)
def test_every_member_is_there_and_described(directory: Path, page: str, interface: str) -> None:
    text = chapter(page, interface)
    root = ET.parse(directory / f"org.ravesvc.Rave1.{interface}.xml").getroot()
    members = [member for member in root.iter() if member.tag in ("method", "signal", "property")]
    assert len(members) == text.count("\n.It Sy ")
    for member in members:
        name = member.get("name", "")
        lines = described(text, name).splitlines()
        if member.tag == "method":
            assert len(lines) > 1, f"{name} is not described"
            (right,) = re.findall(r"Right: (org\.ravesvc\.Rave1\.\w+)\.", "\n".join(lines))
            assert right in list(PolkitAction)
        for argument in member.findall("arg"):
            assert f"{argument.get('type')} {argument.get('name')}" in lines[0]


@pytest.mark.parametrize("interface", WITH_METHODS)
def test_errors_are_such_as_there_are(page: str, interface: str) -> None:
    found = re.findall(r"^Errors: (.*)\.$", chapter(page, interface), re.M)
    assert found
    for errors in found:
        words = re.sub(r"\([^)]*\)", "", errors)
        named = re.findall(r"\b[A-Z]\w+", words.replace("and what Rave says", ""))
        assert set(named) <= {code.value for code in Code}, errors


@pytest.mark.skipif(not shutil.which("groff"), reason="there is no groff here; lintian looks at the page as well")
def test_it_is_well_formed(page: str) -> None:
    done = subprocess.run(
        ["groff", "-mdoc", "-Tutf8", "-ww", "-z"], input=page, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
