"""The message bus: one `Bus` per process, on which it calls, listens and exports `Interface`s."""

from ravesvc.bus.connection import Bus
from ravesvc.bus.interface import Authorizer, Call, Interface, decides_unnamed, method, policy_decides
from ravesvc.bus.introspection import introspection
from ravesvc.bus.matching import Signal
from ravesvc.bus.message import Variant

__all__ = [
    "Authorizer",
    "Bus",
    "Call",
    "Interface",
    "Signal",
    "Variant",
    "decides_unnamed",
    "introspection",
    "method",
    "policy_decides",
]
