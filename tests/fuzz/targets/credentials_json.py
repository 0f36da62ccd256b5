"""credentials.json, which people bring along from another program."""

from __future__ import annotations

import json

from ravesvc.store.credentials_file import parse_credentials, to_object
from tests.fuzz.rules import all_values


def check(data: bytes) -> None:
    """What is accepted can be written, and is the same when read again."""
    credentials = parse_credentials(data, "credentials.json")
    document = to_object(credentials)
    for value in all_values(document):
        assert not isinstance(value, str) or value.isprintable()
        str(value).encode()
    assert parse_credentials(json.dumps(document), "credentials.json") == credentials
