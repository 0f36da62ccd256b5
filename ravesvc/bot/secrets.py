"""What the operator hands over to plugins, such as the key of another service."""

from __future__ import annotations

from collections.abc import Mapping

from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError

# Of one.
MAX_SECRET_BYTES = 16 << 10
_MAX_SHOWN_CHARS = 40


def handed_over(secrets: Mapping[str, str], name: str) -> str:
    """The one of this name. Raises `RaveError` (Config) if there is none."""
    if found := secrets.get(name):
        return found
    text = _("the operator has handed over no secret {name}", name=name[:_MAX_SHOWN_CHARS])
    raise RaveError(Code.CONFIG, text, hint=_("see rave-mesh(8)"))
