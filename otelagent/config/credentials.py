"""Which credentials go together: one way to authenticate exports, and all that it needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any

from otelagent.config.endpoint import split
from otelagent.config.parse import Invalid

__all__ = ["Conflict", "settle"]

_LOOPBACK = re.compile(r"localhost|127(\.[0-9]{1,3}){3}|::1")
_ONE = "leave one of them out: a request has one credential"


class Conflict(ValueError):
    """Settings that don't go together.

    :param name: the setting that is wrong, without the prefix of its signal.
    :param problem: what is wrong with it.
    :param hint: what to do.
    """

    def __init__(self, name: str, problem: str, hint: str = "") -> None:
        self.name = name
        self.problem = problem
        self.hint = hint
        super().__init__(problem)


def settle(values: Mapping[str, Any], given: Set[str], prefix: str) -> frozenset[str]:
    """The settings of one signal that count, of those that have a value.

    A signal that is given a way of its own doesn't get another one from what is given for all signals.

    :param values: of each of `otelagent.config.settings.CREDENTIALS`; falsy for not set.
    :param given: those that were given for the signal itself.
    :param prefix: of the signal's settings, for what a user is told.
    :raises Conflict: they contradict each other, or one needs another.
    """
    ways = {
        "headers": {"headers"} if "authorization" in values["headers"] else set(),
        "bearer_token_file": {"bearer_token_file"} if values["bearer_token_file"] else set(),
        "oauth2_token_url": {name for name, value in values.items() if name.startswith("oauth2_") and value},
    }
    _drop_inherited(ways, given, but=("headers",))
    used = [name for name, names in ways.items() if names]
    if len(used) > 1:
        first, second = used[0], used[-1]
        what = "its authorization and" if first == "headers" else "it and"
        raise Conflict(first, f"{what} {prefix}{second} exclude each other", _ONE)
    oauth2 = ways["oauth2_token_url"]
    if oauth2:
        secrets = {name: {name} & oauth2 for name in ("oauth2_client_secret", "oauth2_client_secret_file")}
        _drop_inherited(secrets, given)
        oauth2 -= {name for name, names in secrets.items() if not names}
        _check_oauth2(values, oauth2, prefix)
    return frozenset({"headers", *ways["bearer_token_file"], *oauth2})


def _drop_inherited(ways: dict[str, set[str]], given: Set[str], but: tuple[str, ...] = ()) -> None:
    own = {way for way, names in ways.items() if names & given}
    for way in ways.keys() - own - set(but):
        if own:
            ways[way] = set()


def _check_oauth2(values: Mapping[str, Any], used: Set[str], prefix: str) -> None:
    if "oauth2_token_url" not in used:
        raise Conflict(min(used), f"needs {prefix}oauth2_token_url too")
    if "oauth2_client_id" not in used:
        raise Conflict("oauth2_token_url", f"needs {prefix}oauth2_client_id too")
    secrets = sorted(used & {"oauth2_client_secret", "oauth2_client_secret_file"})
    if not secrets:
        raise Conflict(
            "oauth2_token_url", f"needs {prefix}oauth2_client_secret or {prefix}oauth2_client_secret_file too"
        )
    if len(secrets) > 1:
        raise Conflict("oauth2_client_secret", f"it and {prefix}oauth2_client_secret_file exclude each other", _ONE)
    try:
        _check_token_url(values["oauth2_token_url"])
    except Invalid as error:
        raise Conflict("oauth2_token_url", error.problem, error.hint) from None


def _check_token_url(text: str) -> None:
    """Source: RFC 6749 section 3.2: TLS is required, a fragment isn't allowed."""
    url = split(text)
    if url.scheme != "https" and not _LOOPBACK.fullmatch(url.hostname or ""):
        raise Invalid("must start with https://: the client's secret would be readable on its way")
    if url.fragment:
        raise Invalid("must not have a fragment")
    if "@" in url.netloc:
        raise Invalid("takes no user and password", "use oauth2_client_id and oauth2_client_secret")
