"""What a back end is missing or fails with."""

from __future__ import annotations

__all__ = ["BackendError", "MissingBinary"]


class BackendError(Exception):
    """A back end could not be built, found or started; the message says what to do about it."""


class MissingBinary(BackendError):
    """A back end is not in the cache. Run `make backends` (or `python -m backends build`)."""
