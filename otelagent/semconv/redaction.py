"""Credentials in URLs and in texts that quote URLs.

Every pattern is linear in the length of the text: none starts again within what it has taken.
"""

from __future__ import annotations

import functools
import re

__all__ = ["MAX_MESSAGE_LENGTH", "MAX_STACKTRACE_LENGTH", "cut", "redact_query", "redact_text", "redact_url"]

#: Characters of an exception's message and of its stack trace that are recorded.
MAX_MESSAGE_LENGTH = 8192
MAX_STACKTRACE_LENGTH = 65_536

# Query keys whose values are credentials. The first four are the convention's own list (`url.query`, `url.full`);
# the rest are what applications commonly put there.
_KEYS = (
    r"(?:AWSAccessKeyId|Signature|sig|X-Goog-Signature|X-Amz-Signature|X-Amz-Security-Token|X-Amz-Credential"
    r"|access_token|refresh_token|id_token|auth_token|token|code|password|passwd|pwd|secret|client_secret"
    r"|api[_-]?key|apikey|key|session|jwt|auth|authorization)="
)
_IN_QUERY = rf"(?i)(^|&|;)({_KEYS})[^&;#]*"
# The names in a query, and a few of its values: enough to tell that none is a credential's, in a third of the time.
_NAMES = r"[^?&;#=]+(?==)"
_SECRETS = frozenset(
    (
        *("awsaccesskeyid", "signature", "sig", "x-goog-signature", "x-amz-signature"),
        *("x-amz-security-token", "x-amz-credential"),
        *("access_token", "refresh_token", "id_token", "auth_token", "token", "code"),
        *("password", "passwd", "pwd", "secret", "client_secret", "api_key", "api-key", "apikey", "key"),
        *("session", "jwt", "auth", "authorization"),
    )
)
# From the first "?" or "#" of a URL on. A fragment may be a path with a query of its own.
_IN_URL = rf"(?i)([?&#;])({_KEYS})[^&;#]*"
# Neither a quote nor a parenthesis ends a value for certain, clients leave them as they are: only what no URL holds.
_IN_TEXT = rf"(?i)([?&#]|;\x20?)({_KEYS})[^&;#\s\"<>]*"
_USERINFO = r"(?<=//)[^/?#\s\"<>]*@"
_SPACE = r"\s"

# At their first use: together they take 1.5 ms.
_compiled = functools.cache(re.compile)


def redact_query(query: str) -> str:
    """A query string with the values of known credentials replaced by ``REDACTED``; names and order are kept."""
    if "=" not in query or _harmless(query):
        return query
    return _compiled(_IN_QUERY).sub(r"\1\2REDACTED", query)


def _harmless(query: str) -> bool:
    # Beyond ASCII there are letters that only the pattern knows to be a K or an S.
    return query.isascii() and _SECRETS.isdisjoint(_compiled(_NAMES).findall(query.lower()))


def redact_url(url: str) -> str:
    """An absolute URL without credentials: userinfo and known secret values of its query and its fragment become
    ``REDACTED``.

    A plain URL, which is nearly every one, costs three searches and no parsing.
    """
    if "@" in url:
        scheme, separator, rest = url.partition("://")
        if separator:
            end = min((i for i in (rest.find("/"), rest.find("?"), rest.find("#")) if i >= 0), default=len(rest))
            userinfo, at, host = rest[:end].rpartition("@")
            if at:
                masked = "REDACTED:REDACTED@" if ":" in userinfo else "REDACTED@"
                url = f"{scheme}://{masked}{host}{rest[end:]}"
    start, fragment = url.find("?"), url.find("#")
    if start < 0 or 0 <= fragment < start:
        start = fragment
    if start < 0 or "=" not in url or _harmless(url[start:]):
        return url
    return url[:start] + _compiled(_IN_URL).sub(r"\1\2REDACTED", url[start:])


def redact_text(text: str) -> str:
    """Any text without the credentials of the URLs and query strings in it."""
    if "//" in text and "@" in text:
        text = _compiled(_USERINFO).sub(
            lambda found: "REDACTED:REDACTED@" if ":" in found.group() else "REDACTED@", text
        )
    return _compiled(_IN_TEXT).sub(r"\1\2REDACTED", text) if "=" in text else text


def cut(text: str, length: int, tail: int = 0) -> str:
    """At most about `length` characters of a text, cut where there is white space: a credential that was cut in two
    would no longer be known as one.

    :param tail: how many of them are taken from the end.
    """
    if len(text) <= length:
        return text
    head = text[: length - tail]
    last = max(map(head.rfind, " \n"))
    end = ""
    if tail:
        first = _compiled(_SPACE).search(text, len(text) - tail)
        end = text[first.start() :] if first else ""
    return f"{head[: max(last, 0)]} ...{end}"
