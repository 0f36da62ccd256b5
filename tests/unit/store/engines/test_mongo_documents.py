from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ravesvc.errors import Code, RaveError
from ravesvc.store.engines import mongo_documents
from ravesvc.store.model import Admin, CommandPermission, Credentials, by_command

WHEN = datetime(2024, 1, 8, 10, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# The documents of the guide.
CREDENTIALS = {
    "_id": "bot_credentials",
    "email": "bot@example.com",
    "deviceId": "abc123",
    "ssaid": "xyz789",
    "parseId": "id123",
    "parseToken": "token456",
    "authToken": "auth789",
    "userId": 12345,
    "peerId": "12345_abc123",
    "updatedAt": WHEN,
}
ADMIN = {"_id": "12345", "userId": 12345, "addedBy": 67890, "addedAt": WHEN, "isActive": True}
PERMISSION = {
    "_id": "search",
    "commandName": "search",
    "requiresAdmin": False,
    "description": "Search for videos",
    "updatedAt": WHEN,
    "updatedBy": 12345,
}


def without(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in keys}


def test_documents_of_the_guide_are_read_and_written() -> None:
    credentials = Credentials(
        email="bot@example.com",
        device_id="abc123",
        ssaid="xyz789",
        parse_id="id123",
        parse_token="token456",
        auth_token="auth789",
        user_id=12345,
        updated_at=WHEN,
    )
    admin = Admin(user_id=12345, added_by=67890, added_at=WHEN)
    permission = CommandPermission(
        command="search", requires_admin=False, description="Search for videos", updated_at=WHEN, updated_by=12345
    )
    assert mongo_documents.credentials(CREDENTIALS) == credentials
    assert mongo_documents.of_credentials(credentials) == (without(CREDENTIALS, "_id"), [])
    assert mongo_documents.admin(ADMIN) == admin
    assert mongo_documents.of_admin(admin) == without(ADMIN, "_id")
    assert mongo_documents.permission(PERMISSION) == permission
    assert mongo_documents.of_permission(permission) == without(PERMISSION, "_id")


def test_credentials_that_are_not_known_are_left_out() -> None:
    read = mongo_documents.credentials(
        {"email": "bot@example.com", "deviceId": "abc123", "ssaid": "xyz789", "userId": None}
    )
    assert read == Credentials(email="bot@example.com", device_id="abc123", ssaid="xyz789")
    known, unknown = mongo_documents.of_credentials(read)
    assert known == {
        "email": "bot@example.com",
        "deviceId": "abc123",
        "ssaid": "xyz789",
        "authToken": "",
        "peerId": "",
    }
    assert unknown == ["parseId", "parseToken", "userId", "updatedAt"]


@pytest.mark.parametrize(
    ("peer", "user"), [("12345_abc123", 12345), ("", None), ("_abc123", None), ("bot_abc123", None), (5, None)]
)
def test_a_user_that_is_left_out_is_in_the_peer_id(peer: object, user: int | None) -> None:
    for document in (without(CREDENTIALS, "userId"), {**CREDENTIALS, "userId": None}):
        read = mongo_documents.credentials({**document, "peerId": peer})
        assert read.user_id == user
        assert (read.session is None) == (user is None), "without a user a login is needed"


def test_tokens_lose_their_prefix() -> None:
    read = mongo_documents.credentials({**CREDENTIALS, "parseToken": "r:token456", "authToken": "r: auth789"})
    assert (read.parse_token, read.auth_token) == ("token456", "auth789")


@pytest.mark.parametrize("number", [12345, 12345.0, "12345"])
def test_a_user_id_has_many_kinds(number: object) -> None:
    assert mongo_documents.credentials({**CREDENTIALS, "userId": number}).user_id == 12345
    admin = mongo_documents.admin({**ADMIN, "userId": number, "addedBy": number})
    assert (admin.user_id, admin.added_by) == (12345, 12345)
    assert type(admin.user_id) is int


@pytest.mark.parametrize("key", ["email", "deviceId", "ssaid"])
@pytest.mark.parametrize("value", [None, "", 5])
def test_credentials_without_their_essence_make_no_sense(key: str, value: object) -> None:
    with pytest.raises(
        RaveError, match=f"document bot_credentials of credentials can't be used: {key} must"
    ) as caught:
        mongo_documents.credentials({**CREDENTIALS, key: value})
    assert caught.value.code is Code.BAD_DATA
    assert caught.value.attributes["key"] == key
    assert "log in again" in caught.value.hint


@pytest.mark.parametrize("change", [{"parseId": 5}, {"parseToken": []}, {"authToken": 5}, {"userId": "bot"}])
def test_credentials_of_a_wrong_type_make_no_sense(change: dict[str, object]) -> None:
    with pytest.raises(RaveError, match="of credentials can't be used"):
        mongo_documents.credentials({**CREDENTIALS, **change})


@pytest.mark.parametrize("user", [None, 0, "0", -5, 1.5, float("nan"), 2**63, 1e300, True, "bot", [], ""])
def test_a_document_without_a_user_makes_nobody_an_admin(user: object) -> None:
    with pytest.raises(RaveError, match="userId must be a user id") as caught:
        mongo_documents.admin({**ADMIN, "userId": user})
    assert caught.value.code is Code.BAD_DATA


def test_only_plain_words_make_an_admin() -> None:
    assert not mongo_documents.admin(without(ADMIN, "isActive")).active
    assert not mongo_documents.admin({**ADMIN, "isActive": None}).active
    for odd in (1, "true", [True]):
        with pytest.raises(RaveError, match="isActive must be true or false"):
            mongo_documents.admin({**ADMIN, "isActive": odd})


@pytest.mark.parametrize("odd", [None, "2024", 5, datetime(1969, 1, 1, tzinfo=UTC)])
def test_what_only_informs_may_be_missing(odd: object) -> None:
    admin = mongo_documents.admin({**ADMIN, "addedBy": -1, "addedAt": odd})
    assert (admin.added_by, admin.added_at) == (0, EPOCH)
    permission = mongo_documents.permission({**PERMISSION, "updatedBy": None, "updatedAt": odd, "description": 5})
    assert (permission.updated_by, permission.updated_at) == (0, EPOCH)
    assert permission.description == "Command: search"


def test_a_command_is_in_lower_case_and_named_somewhere() -> None:
    assert mongo_documents.permission({**PERMISSION, "commandName": " Search"}).command == "search"
    assert mongo_documents.permission(without(PERMISSION, "commandName")).command == "search"
    for nameless in ({"commandName": " "}, {"commandName": None, "_id": 5}):
        with pytest.raises(RaveError, match="commandName must be a text"):
            mongo_documents.permission({**PERMISSION, **nameless})
        assert mongo_documents.guarded({**PERMISSION, **nameless}) is None


@pytest.mark.parametrize("odd", [None, 0, "false", "no", 1])
def test_a_permission_that_makes_no_sense_opens_nothing(odd: object) -> None:
    document = {**PERMISSION, "requiresAdmin": odd}
    with pytest.raises(RaveError, match="requiresAdmin must be true or false"):
        mongo_documents.permission(document)
    guarded = mongo_documents.guarded(document)
    assert guarded
    assert (guarded.command, guarded.requires_admin) == ("search", True)


def test_of_several_documents_the_one_that_counts_is_taken() -> None:
    admins = [
        Admin(user_id=user, added_by=0, added_at=WHEN, active=active) for user, active in [(7, True), (5, False)]
    ]
    again = Admin(user_id=5, added_by=0, added_at=WHEN)
    late = Admin(user_id=7, added_by=0, added_at=WHEN, active=False)
    assert mongo_documents.by_user([*admins, again, late]) == (again, admins[0])

    def permission(command: str, *, requires_admin: bool) -> CommandPermission:
        return CommandPermission(
            command=command, requires_admin=requires_admin, description="", updated_at=WHEN, updated_by=0
        )

    for_admins = permission("search", requires_admin=True)
    others = [permission("search", requires_admin=False), permission("ping", requires_admin=False)]
    assert by_command([*others, for_admins, others[0]]) == (others[1], for_admins)


def test_a_place_is_one_short_line() -> None:
    assert (
        mongo_documents.place("admin_users", {"_id": "a\nb" + "c" * 200}) == f"document a?b{'c' * 77} of admin_users"
    )
