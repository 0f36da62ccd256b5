"""The file that `ca_file` names: certificates, and no key."""

from __future__ import annotations

from ravesvc.errors import RaveError
from ravesvc.setup.authorities import certificates
from tests.fuzz.rules import check_errors


def check(data: bytes) -> None:
    """What is accepted holds certificates alone, and is the same when read again."""
    try:
        text = certificates(data, "ca.pem")
    except RaveError as e:
        check_errors([e])
        raise
    assert "PRIVATE KEY" not in text
    assert certificates(text.encode("latin-1"), "ca.pem") == text
