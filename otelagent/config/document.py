"""Settings that are more than one value: JSON, as text or in a file. Imported where there are any."""

from __future__ import annotations

import json

from otelagent.config.parse import Invalid

__all__ = ["read_document"]


def read_document(value: object) -> object:
    """What a JSON text, or a JSON file whose path is given, stands for; of anything else itself.

    Nothing of the text is quoted: there may be a secret in it.

    :raises Invalid: it can't be read.
    """
    if not isinstance(value, str):
        return value
    text = value
    if not value.startswith(("{", "[")):
        try:
            with open(value, encoding="utf-8") as file:
                text = file.read()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is not a file of UTF-8 text"
            raise Invalid(f"must be JSON or the path of a JSON file: {why}") from None
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError as error:
        raise Invalid(f"its JSON is wrong at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except Invalid:
        raise
    except (RecursionError, ValueError):  # the second is a number of thousands of digits
        raise Invalid("its JSON is nested too deep, or has too long a number") from None


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise Invalid(f"{key!r} is there twice")
        found[key] = value
    return found
