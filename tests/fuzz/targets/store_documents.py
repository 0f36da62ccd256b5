"""Documents of MongoDB, perhaps of another program: as the driver hands them over, each to all that read one."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import bson
from bson.errors import BSONError

from ravesvc.api import signing
from ravesvc.config.worker_options import ClientIdentity
from ravesvc.errors import Code, RaveError
from ravesvc.store.engines import mongo_documents
from ravesvc.store.engines.mongo import _CODEC

_MAX_ID = 2**63 - 1
_IDENTITY = ClientIdentity(request_hash_key="ab", client_version="1", user_agent="x")


def check(data: bytes) -> None:
    """What is read of a document is within bounds, can be written, and is the same when read again."""
    document = _as_the_driver_has_it(data)
    read = 0
    for collection in (mongo_documents.ADMINS, mongo_documents.PERMISSIONS, mongo_documents.IGNORED):
        with contextlib.suppress(RaveError):
            _check_entry(collection, document)
            read += 1
    read += _check_credentials(document) + _check_room_document(document)
    assert mongo_documents.host(document).name.isprintable()
    if not read:
        raise RaveError(Code.BAD_DATA, "nothing that the store knows")


def _as_the_driver_has_it(data: bytes) -> dict[str, Any]:
    """A JSON object through the format of MongoDB, in which {"$date": N} is a date of N milliseconds."""
    try:
        found = json.loads(data, object_hook=_dates)
        return bson.decode(bson.encode(found), _CODEC)
    except (ValueError, OverflowError, RecursionError, TypeError, BSONError):
        raise RaveError(Code.BAD_DATA, "no document") from None


def _dates(found: dict[str, Any]) -> Any:
    return bson.DatetimeMS(found["$date"]) if found.keys() == {"$date"} and type(found["$date"]) is int else found


def _check_entry(collection: mongo_documents.Collection[Any], document: dict[str, Any]) -> None:
    entry = collection.read(document)
    written = collection.write(entry)
    for key in ("userId", "addedBy", "updatedBy"):
        assert 0 <= written.get(key, 0) <= _MAX_ID
    assert all(value >= datetime.fromtimestamp(0, UTC) for value in written.values() if isinstance(value, datetime))
    assert collection.read(bson.decode(bson.encode(written), _CODEC)) == entry


def _check_credentials(document: dict[str, Any]) -> bool:
    found, unusable = mongo_documents.usable(document)
    assert (found is None) == bool(unusable or not document)
    assert unusable.isprintable()
    if found is None:
        return False
    assert mongo_documents.usable(mongo_documents.of_credentials(found)[0]) == (found, "")
    if found.session:
        with contextlib.suppress(RaveError):
            headers = signing.headers(_IDENTITY, found.session, b"", 1)
            assert all(value.isprintable() for value in headers.values())
    return True


def _check_room_document(document: dict[str, Any]) -> bool:
    with contextlib.suppress(RaveError):
        assert mongo_documents.document_size(document).size <= _MAX_ID
    try:
        found = mongo_documents.room_document(document)
    except RaveError:
        return False
    assert mongo_documents.room_document(mongo_documents.of_room_document(found)) == found
    return True
