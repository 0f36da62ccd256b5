"""How a change that was made from a room is undone."""

from __future__ import annotations

from ravesvc.errors import Code, RaveError
from ravesvc.store.chat_change import ChatChange
from ravesvc.store.model import Admin, CommandPermission, Contents, IgnoredUser, Store


async def undo(store: Store, change: ChatChange, contents: Contents) -> bool:
    """Restore the former entry; False if the store has it already. `contents` is what the store holds now.

    Raises `RaveError` as the store does, and Conflict when the entry was changed once more; nothing is changed then.
    """
    if not change.can_be_undone(contents):
        return False
    match change.before:
        case Admin() as admin:
            if isinstance(change.after, Admin):
                # A store makes an admin an owner, and no owner an admin.
                await store.remove_admin(admin.user_id)
            await store.add_admin(admin)
        case CommandPermission() as permission:
            await store.set_permission(permission)
        case IgnoredUser() as ignored:
            _check_not_admin(ignored.user_id, contents)
            await store.ignore_user(ignored)
        case None:
            await _remove(store, change)
    return True


async def _remove(store: Store, change: ChatChange) -> None:
    match change.after:
        case Admin(user_id=user):
            await store.remove_admin(user)
        case CommandPermission(command=command):
            await store.remove_permission(command)
        case IgnoredUser(user_id=user):
            await store.unignore_user(user)


def _check_not_admin(user: int, contents: Contents) -> None:
    if any(admin.active and admin.user_id == user for admin in contents.admins):
        text = f"user {user} is an admin now, whom bots always listen to"
        raise RaveError(Code.CONFLICT, text, hint="take that right away first")
