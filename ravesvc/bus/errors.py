"""Failures and their D-Bus error names, in both directions."""

from __future__ import annotations

from ravesvc.common.text import printable
from ravesvc.errors import Code, RaveError
from ravesvc.names import ERROR_PREFIX

_STANDARD = "org.freedesktop.DBus.Error."
ACCESS_DENIED = f"{_STANDARD}AccessDenied"
FAILED = f"{_STANDARD}Failed"
INVALID_ARGS = f"{_STANDARD}InvalidArgs"
LIMITS_EXCEEDED = f"{_STANDARD}LimitsExceeded"
NAME_HAS_NO_OWNER = f"{_STANDARD}NameHasNoOwner"
PROPERTY_READ_ONLY = f"{_STANDARD}PropertyReadOnly"
UNKNOWN_INTERFACE = f"{_STANDARD}UnknownInterface"
UNKNOWN_METHOD = f"{_STANDARD}UnknownMethod"
UNKNOWN_OBJECT = f"{_STANDARD}UnknownObject"
UNKNOWN_PROPERTY = f"{_STANDARD}UnknownProperty"
CANCELLED = ERROR_PREFIX + Code.CLOSED
# Between the name of an error and the id under which its cause is in the log. The id is no part of the sentence: each
# program shows it in its own form. It is no second string of the body, either: gdbus shows none if there are two.
_INCIDENT = ".incident_"

_MAX_REFUSAL_CHARS = 200

_CODES = {
    ACCESS_DENIED: Code.ACCESS_DENIED,
    f"{_STANDARD}InteractiveAuthorizationRequired": Code.ACCESS_DENIED,
    f"{_STANDARD}NoReply": Code.TIMEOUT,
    f"{_STANDARD}Timeout": Code.TIMEOUT,
    f"{_STANDARD}TimedOut": Code.TIMEOUT,
    **{ERROR_PREFIX + code: code for code in Code},
}


class DBusErrorReply(Exception):  # noqa: N818 - it is an answer to a caller, not a failure of ours
    """An answer with one of the standard D-Bus errors.

    The text is cut, because it may quote the call, such as a path of megabytes.
    """

    def __init__(self, error_name: str, text: str) -> None:
        super().__init__(printable(text, _MAX_REFUSAL_CHARS))
        self.error_name = error_name


def error_name(error: RaveError) -> str:
    """The D-Bus error name for `error` in an answer to a caller: with the id of its incident, if it has one."""
    if error.incident:
        return f"{ERROR_PREFIX}{error.code}{_INCIDENT}{error.incident}"
    return ACCESS_DENIED if error.code is Code.ACCESS_DENIED else ERROR_PREFIX + error.code


def failure(name: str, text: str, what: str, said: str) -> RaveError:
    """The failure of `what`, made of an error reply.

    Its attribute `error_name` is the reply's name without the id of an incident, `said` the text of the program that
    was called: empty when the bus answered in its place, whose text is for programmers.
    """
    name, _, incident = name.partition(_INCIDENT) if name.startswith(ERROR_PREFIX) else (name, "", "")
    code = _CODES.get(name, Code.BUS)
    message = f"{what} failed: {text[:500] or name}"
    return RaveError(code, message, incident=incident, error_name=name, said=said[:500])
