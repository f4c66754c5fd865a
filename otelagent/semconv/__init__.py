"""Typed descriptions of calls and the attributes, names and statuses the stable semantic conventions give them.

Standard library only: an instrumentation, a test or another process can describe a call without OpenTelemetry loaded.
"""

from __future__ import annotations

#: The semantic conventions these descriptions follow; every scope that uses them carries it.
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
