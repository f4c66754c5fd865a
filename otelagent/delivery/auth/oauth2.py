"""Tokens by the OAuth 2.0 client-credentials grant (RFC 6749 section 4.4)."""

from __future__ import annotations

import base64
import json
import math
import re
import time
import weakref
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlencode, urlsplit

import httpcore

from otelagent.config.mask import Secret
from otelagent.delivery.auth import Headers, Unavailable
from otelagent.delivery.auth.tls import client_context
from otelagent.delivery.auth.watched import Watched, read_text
from otelagent.delivery.failures import FailureLog
from otelagent.delivery.otlp import clean_text, secrets_in, user_agent
from otelagent.delivery.retry import parse_retry_after, uniform
from otelagent.delivery.transports.deadline import DeadlineNetwork
from otelagent.delivery.transports.http_body import MalformedBody, lower_headers, read_body
from otelagent.fork_gate import whole_imports
from otelagent.forks import at_fork
from otelagent.struct import struct
from otelagent.threads import Lock

if TYPE_CHECKING:
    from otelagent.config.model import OAuth2

__all__ = ["ClientCredentials", "client_credentials"]

_MAX_ANSWER_BYTES = 64 * 1024
# A token is renewed when between these shares of its life are over, at random: agents that were started together don't
# come together.
_RENEWED_FROM, _RENEWED_UNTIL = 0.8, 0.9
# How soon it is tried again to renew a token that is still valid, seconds, times 0.5 to 1.5.
_EARLY_RETRY_S = 10.0
# A token that was fetched because the one before it was refused, and is refused too, shows that another won't help: it
# isn't replaced for so many seconds, or every payload would cost the token endpoint a request.
_USELESS_S = 30.0

_TOKEN = re.compile(r"[\x21-\x7e]+")


@struct(frozen=True)
class _Token:
    """A token and when it is to be renewed, by `time.monotonic`; infinity where the server set no end."""

    text: Secret
    fetched_at_s: float
    expires_at_s: float
    after_refusal: bool

    @property
    def headers(self) -> Headers:
        return {"authorization": f"Bearer {self.text.reveal()}"}


class ClientCredentials:
    """One client of one token endpoint, shared by all transports that have the same settings; any thread may ask.

    One request is under way at a time; who comes meanwhile waits for its outcome, or goes on with a token that is
    still valid. A token is renewed before its end, and used until then if that fails.

    :param settings: `token_url` is set.
    :param log: where it is told that a valid token can't be renewed.
    """

    def __init__(self, settings: OAuth2, log: FailureLog) -> None:
        self._settings = settings
        self._log = log
        path = settings.client_secret_file
        self._secret_file = Watched((path,), lambda: _read_secret(path), log) if path is not None else None
        self._in_body: bool | None = None  # Where the server wants the secret; None: not known yet.
        self._token: _Token | None = None
        self._renew_at_s = -math.inf
        self._refused: _Token | None = None
        self._accepted: _Token | None = None
        self._failures = 0
        self._failure = Unavailable("")
        self._start()

    def _start(self) -> None:
        self._fetching = Lock()
        self._network: DeadlineNetwork | None = None

    def headers(self, deadline_s: float) -> Headers:
        token, failures = self._token, self._failures
        now_s = time.monotonic()
        valid = token is not None and token is not self._refused and now_s < token.expires_at_s
        if token is not None and valid and now_s < self._renew_at_s:
            return token.headers
        left_s = max(deadline_s - now_s, 0.0)
        fetching = self._fetching  # A fork's child gets another.
        if not (fetching.acquire(blocking=False) if valid else fetching.acquire(timeout=left_s)):
            if token is not None and valid:
                return token.headers
            raise Unavailable(f"{self._where}: no answer within the time of a try")
        try:
            if self._token is token:
                if self._failures != failures:
                    raise self._failure  # Of the request that was waited for.
                self._renew(now_s + left_s / 2 if valid else deadline_s, valid)
            assert self._token is not None
            return self._token.headers
        finally:
            fetching.release()

    def refused(self, sent: Headers) -> bool:
        token = self._token
        if token is None or token.headers["authorization"] != sent.get("authorization"):
            return True  # Another thread has got a new one already.
        useless = token.after_refusal and token is not self._accepted
        if useless and time.monotonic() < token.fetched_at_s + _USELESS_S:
            return False
        self._refused = token
        return True

    def accepted(self, sent: Headers) -> None:
        token = self._token
        if token is not None and token.headers["authorization"] == sent.get("authorization"):
            self._accepted = token

    def after_fork_in_child(self) -> None:
        if self._network is not None:
            self._network.abandon()
        self._start()

    @property
    def _where(self) -> str:
        return f"the token endpoint {self._settings.masked_token_url}"

    def _renew(self, deadline_s: float, valid: bool) -> None:
        now_s = time.monotonic()
        try:
            text, lifetime_s = self._fetch(deadline_s)
        except Unavailable as failure:
            if not valid:
                self._failure = failure
                self._failures += 1
                raise
            self._log.news("token", f"{failure}; the token that is there is used while it is valid")
            self._renew_at_s = time.monotonic() + _EARLY_RETRY_S * (0.5 + uniform())
            return
        # Counted from before the request, as the server may have.
        self._token = _Token(Secret(text), now_s, now_s + lifetime_s, self._refused is not None)
        self._refused = None
        share = _RENEWED_FROM + (_RENEWED_UNTIL - _RENEWED_FROM) * uniform()
        self._renew_at_s = now_s + lifetime_s * share

    def _fetch(self, deadline_s: float) -> tuple[str, float]:
        """A new token and how long it lives, seconds."""
        secret = self._secret()
        # RFC 6749 section 2.3.1: every server takes HTTP Basic. Some do not, and want the secret in the body.
        first, *others = (False, True) if self._in_body is None else (self._in_body,)
        answer = self._ask(secret, first, deadline_s)
        in_body = first
        for other in others:
            if answer.status in (400, 401):
                second = self._ask(secret, other, deadline_s)
                if second.status == 200:
                    answer, in_body = second, other
        token = self._read(answer, secret)
        self._in_body = in_body
        return token

    def _secret(self) -> str:
        if self._secret_file is not None:
            return self._secret_file.get()
        assert self._settings.client_secret is not None
        return self._settings.client_secret.reveal()

    def _ask(self, secret: str, in_body: bool, deadline_s: float) -> _Answer:
        settings = self._settings
        assert settings.token_url is not None
        fields = {"grant_type": "client_credentials"}
        if settings.scopes:
            fields["scope"] = " ".join(settings.scopes)
        fields |= {name: value.reveal() for name, value in settings.parameters.items()}
        headers = {
            "content-type": "application/x-www-form-urlencoded",
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": user_agent(),
        }
        if in_body:
            fields |= {"client_id": settings.client_id or "", "client_secret": secret}
        else:
            headers["authorization"] = f"Basic {self._basic(secret)}"
        network = self._network = DeadlineNetwork()
        network.begin_try(max(deadline_s - time.monotonic(), 0.001))
        try:
            with whole_imports():
                tls = urlsplit(settings.token_url).scheme == "https"
                context = client_context(settings.certificate) if tls else None
            with (
                httpcore.ConnectionPool(ssl_context=context, max_connections=1, network_backend=network) as pool,
                pool.stream(
                    "POST",
                    settings.token_url,
                    headers=[(name.encode(), value.encode()) for name, value in headers.items()],
                    content=urlencode(fields).encode(),
                ) as response,
            ):
                answered = lower_headers(response)
                return _Answer(response.status, answered, read_body(response, answered, _MAX_ANSWER_BYTES))
        except httpcore.TimeoutException:
            raise Unavailable(f"{self._where}: no answer within the time of a try") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, MalformedBody, OSError) as error:
            what = clean_text(str(error) or type(error).__name__, self._secrets(secret))
            raise Unavailable(f"{self._where}: {what}") from None

    def _basic(self, secret: str) -> str:
        text = f"{quote_plus(self._settings.client_id or '')}:{quote_plus(secret)}"
        return base64.b64encode(text.encode()).decode()

    def _secrets(self, secret: str) -> tuple[str, ...]:
        parameters = [value.reveal() for value in self._settings.parameters.values()]
        hidden = {str(number): text for number, text in enumerate((secret, *parameters))}
        encoded = {f"encoded {name}": quote_plus(text) for name, text in hidden.items()}
        basic = {"authorization": f"Basic {self._basic(secret)}"}
        return secrets_in({**hidden, **encoded, **basic}, self._settings.token_url or "")

    def _read(self, answer: _Answer, secret: str) -> tuple[str, float]:
        """Source: RFC 6749 sections 5.1 and 5.2."""
        fields = answer.fields()
        if answer.status != 200:
            parts = [str(fields[name]) for name in ("error", "error_description") if fields.get(name)]
            told = clean_text(": ".join(parts), self._secrets(secret))
            if 300 <= answer.status < 400:
                told = "a redirect, which isn't followed: check oauth2_token_url"
            message = f"{self._where}: HTTP {answer.status}{f', {told}' if told else ''}"
            raise Unavailable(message, parse_retry_after(answer.headers.get("retry-after"), time.time()))
        # What is wrong is named and not quoted: it may be a token.
        token = fields.get("access_token")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise Unavailable(f"{self._where}: the answer has no access_token")
        if str(fields.get("token_type", "bearer")).lower() != "bearer":
            raise Unavailable(f"{self._where}: the answer's token_type isn't Bearer")
        return token, _lifetime_s(fields.get("expires_in"))


class _Answer:
    """An answer, whose body a `repr` doesn't show."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self._body = body

    def fields(self) -> dict[str, Any]:
        try:
            fields = json.loads(self._body)
        except (ValueError, RecursionError):
            return {}
        return fields if isinstance(fields, dict) else {}


def _lifetime_s(expires_in: object) -> float:
    """Infinity where the server doesn't say; then a refusal tells. Some servers write the number as a text."""
    try:
        seconds = float(expires_in)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.inf
    return math.inf if math.isnan(seconds) else max(seconds, 0.0)


def _read_secret(path: str) -> str:
    secret = read_text(path)
    if not secret:
        raise ValueError(f"{path}: no secret in it")
    return secret


_clients: weakref.WeakValueDictionary[object, ClientCredentials] = weakref.WeakValueDictionary()
_opening = Lock()


def _renew_lock() -> None:
    global _opening
    _opening = Lock()


at_fork(in_child=_renew_lock)


def client_credentials(settings: OAuth2, log: FailureLog) -> ClientCredentials:
    """The process's one client with these settings.

    :param log: see `ClientCredentials`.
    """
    fields = {**vars(settings), "parameters": frozenset(settings.parameters.items())}
    key = tuple(fields.values())
    with _opening:
        client = _clients.get(key)
        if client is None:
            client = _clients[key] = ClientCredentials(settings, log)
        return client
