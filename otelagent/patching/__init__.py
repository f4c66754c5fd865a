"""The base every instrumentation stands on: it owns the span, awaiting, errors, suppression, propagation and undo.

An instrumentation subclasses `Instrumentation`, names its library, and marks methods with `@hook` (describe a call) or
`@replace` (swap a factory). Nothing here or there imports the library.
"""

from __future__ import annotations

from otelagent.patching.hook import Call, hook, replace
from otelagent.patching.instrumentation import Instrumentation
from otelagent.patching.operation import Operation

__all__ = ["Call", "Instrumentation", "Operation", "hook", "replace"]
