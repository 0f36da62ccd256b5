"""The code with which a chat user becomes an admin: issued to an operator on the host, typed in a room.

It is kept in memory alone: a restart voids it. There is one code at a time, for all rooms.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ravesvc.common.text import count
from ravesvc.errors import Code, RaveError

# Seconds that a code is valid.
VALID_S = 600
# Wrong codes in all rooms together, after which a code is void. 30**8 codes are possible.
MAX_WRONG = 5

# Without those that look like others: I, L, O, U, 0 and 1.
_LETTERS = "ABCDEFGHJKMNPQRSTVWXYZ23456789"
_CODE_CHARS = 8
# Longer texts are no attempts to type one.
_MAX_TYPED = 64


@dataclass(slots=True)
class _Issued:
    code: bytes
    until: float
    wrong: int = 0


class Claims:
    """Issues a code, and takes it back from the user who has it.

    Attributes:
        way: how to get a code, for people in a room.
    """

    def __init__(self, way: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells monotonic seconds."""
        self.way = way
        self._clock = clock
        self._issued: _Issued | None = None

    def issue(self) -> str:
        """A new code, such as ABCD-2345, in place of the one before."""
        code = "".join(secrets.choice(_LETTERS) for _ in range(_CODE_CHARS))
        self._issued = _Issued(code.encode(), self._clock() + VALID_S)
        return f"{code[: _CODE_CHARS // 2]}-{code[_CODE_CHARS // 2 :]}"

    @contextlib.contextmanager
    def redeeming(self, typed: str) -> Iterator[None]:
        """Use the code up while the body makes an admin; if that fails, the code may be typed again.

        Raises `RaveError`: AccessDenied for a code that is wrong or over, or when there is none; InvalidArgument for
        a text without a code, which is no attempt.
        """
        issued = self._check(typed)
        # Two users may type it at the same moment.
        self._issued = None
        try:
            yield
        except BaseException:
            self._issued = self._issued or issued
            raise

    def _check(self, typed: str) -> _Issued:
        issued = self._issued
        if issued is None or issued.until <= self._clock():
            self._issued = None
            raise RaveError(Code.ACCESS_DENIED, "no code is valid now", hint=self.way)
        code = _normal(typed)
        if not code:
            raise RaveError(Code.INVALID_ARGUMENT, "the code is missing", hint="write it after the command")
        if hmac.compare_digest(code, issued.code):
            return issued
        issued.wrong += 1
        if issued.wrong >= MAX_WRONG:
            self._issued = None
            text = f"that is not the code, and after {MAX_WRONG} wrong ones it is void"
            raise RaveError(Code.ACCESS_DENIED, text, hint=self.way)
        left = MAX_WRONG - issued.wrong
        raise RaveError(Code.ACCESS_DENIED, f"that is not the code: {count(left, 'more try')}, then it is void")


def _normal(typed: str) -> bytes:
    """What was typed on any keyboard, in the letters of a code."""
    text = unicodedata.normalize("NFKC", typed[:_MAX_TYPED]).upper()
    return "".join(character for character in text if character.isalnum()).encode()
