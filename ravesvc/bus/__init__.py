"""The message bus: one `Bus` per process, on which it calls, listens and exports `Interface`s."""

from ravesvc.bus.connection import Bus
from ravesvc.bus.interface import Authorizer, Call, Interface, allow_all, handles_missing_action, method
from ravesvc.bus.introspection import introspection
from ravesvc.bus.matching import SignalMessage, name_changes
from ravesvc.bus.message import ALLOW_INTERACTIVE_AUTHORIZATION, Variant

__all__ = [
    "ALLOW_INTERACTIVE_AUTHORIZATION",
    "Authorizer",
    "Bus",
    "Call",
    "Interface",
    "SignalMessage",
    "Variant",
    "allow_all",
    "handles_missing_action",
    "introspection",
    "method",
    "name_changes",
]
