"""Friendships and the requests for them. A model without I/O; users are given by their ids.

Of the real server the calls are known, not the rules. Here a request stays open until its receiver accepts or
declines it, or its sender withdraws it. A request in the opposite direction accepts it. A friendship is mutual, and
either friend may end it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from ravesvc.errors import Code, RaveError

# For each user.
MAX_FRIENDS = 1000
MAX_REQUESTS = 1000

# The states of a user towards another. `pendingactionable`: has received a request, `pending`: has sent one.
FRIENDS, PENDING, ACTIONABLE, NOT_FRIENDS = "friends", "pending", "pendingactionable", "notfriends"
_MISSING = {
    FRIENDS: "this user is no friend",
    ACTIONABLE: "this user has not asked for a friendship",
    PENDING: "this user was not asked for a friendship",
}


class Friendships:
    """Friends and requests; each change is one that `user` makes.

    Raises `RaveError`: NotFound for a request or friendship that does not exist, Forbidden beyond a limit,
    InvalidArgument for a request to oneself.
    """

    def __init__(self) -> None:
        self._friends: dict[int, list[int]] = {}
        self._requests: dict[int, list[int]] = {}  # the senders by the receiver

    def friends(self, user: int) -> list[int]:
        """The friends of a user, the oldest friendship first."""
        return list(self._friends.get(user, ()))

    def requests(self, user: int) -> list[int]:
        """The senders of the open requests to this user, the oldest request first."""
        return list(self._requests.get(user, ()))

    def state(self, user: int, other: int) -> str:
        """The state of `user` towards `other`."""
        if other in self._friends.get(user, ()):
            return FRIENDS
        if other in self._requests.get(user, ()):
            return ACTIONABLE
        return PENDING if user in self._requests.get(other, ()) else NOT_FRIENDS

    def request(self, user: int, other: int) -> None:
        """Send a request, or accept that of `other`; does nothing if either was done before."""
        if user == other:
            raise RaveError(Code.INVALID_ARGUMENT, "a user can't be their own friend")
        state = self.state(user, other)
        if state == ACTIONABLE:
            self.accept(user, other)
        elif state == NOT_FRIENDS:
            if len(self.requests(other)) >= MAX_REQUESTS:
                raise RaveError(Code.FORBIDDEN, f"{MAX_REQUESTS} requests wait for this user already")
            self._requests.setdefault(other, []).append(user)

    def accept(self, user: int, other: int) -> None:
        """Accept the request of `other`."""
        self._expect(ACTIONABLE, user, other)
        if any(len(self.friends(one)) >= MAX_FRIENDS for one in (user, other)):
            raise RaveError(Code.FORBIDDEN, f"a user has at most {MAX_FRIENDS} friends")
        self._requests[user].remove(other)
        for one, friend in ((user, other), (other, user)):
            self._friends.setdefault(one, []).append(friend)

    def decline(self, user: int, other: int) -> None:
        """Decline the request of `other`."""
        self._expect(ACTIONABLE, user, other)
        self._requests[user].remove(other)

    def withdraw(self, user: int, other: int) -> None:
        """Withdraw the request to `other`."""
        self._expect(PENDING, user, other)
        self._requests[other].remove(user)

    def unfriend(self, user: int, other: int) -> None:
        """End a friendship."""
        self._expect(FRIENDS, user, other)
        for one, friend in ((user, other), (other, user)):
            self._friends[one].remove(friend)

    def end(self, user: int, other: int) -> None:
        """End a friendship, or decline or withdraw the request for it."""
        changes = {ACTIONABLE: self.decline, PENDING: self.withdraw}
        changes.get(self.state(user, other), self.unfriend)(user, other)

    def to_json(self) -> dict[str, Any]:
        """For the control API: `friends` and the senders of open requests (`requests`), both by user id."""
        shown = {"friends": self._friends, "requests": self._requests}
        return {key: {str(user): ids for user, ids in lists.items() if ids} for key, lists in shown.items()}

    def _expect(self, state: str, user: int, other: int) -> None:
        if self.state(user, other) != state:
            raise RaveError(Code.NOT_FOUND, _MISSING[state])


Change: TypeAlias = Callable[[Friendships, int, int], None]
