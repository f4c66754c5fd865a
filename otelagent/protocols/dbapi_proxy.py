"""Proxies of DB-API connections and cursors, for drivers whose types can be neither subclassed nor patched."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import wrapt

from otelagent.patching.wrap import wrap
from otelagent.semconv.db import Peer

if TYPE_CHECKING:
    from otelagent.protocols.dbapi import Driver

__all__ = ["ConnectionProxy", "CursorProxy"]


class CursorProxy(wrapt.ObjectProxy[Any]):
    """A cursor whose statements are traced.

    :ivar connection: the traced connection, where the driver's cursor has one at all (an extension of PEP 249).
    """

    def __init__(self, cursor: Any, connection: ConnectionProxy, driver: Driver) -> None:
        super().__init__(cursor)
        self._self_connection = connection
        self._self_driver = driver

    @property
    def connection(self) -> ConnectionProxy:
        return self._self_connection

    def __iter__(self) -> Any:
        return iter(self.__wrapped__)

    def __enter__(self) -> Any:
        return self._self_own(self.__wrapped__.__enter__())

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        if name in ("execute", "executemany", "executescript", "callproc"):
            return self._self_traced(name, value)
        return value

    def _self_traced(self, verb: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(proxy: CursorProxy, *args: Any, **kwargs: Any) -> Any:
            return proxy._self_own(method(*args, **kwargs))

        return wrap(call, self._self_driver.site(verb), method=True).__get__(self)  # type: ignore[no-any-return]

    def _self_own(self, result: Any) -> Any:
        return self if result is self.__wrapped__ else result


class ConnectionProxy(wrapt.ObjectProxy[Any]):
    """A connection that gives `CursorProxy`s."""

    def __init__(self, connection: Any, driver: Driver, peer: Peer) -> None:
        super().__init__(connection)
        self._self_driver = driver
        self._self_peer = peer

    @property
    def _otelagent_peer(self) -> Peer:
        return self._self_peer

    def __enter__(self) -> Any:
        result = self.__wrapped__.__enter__()
        return self if result is self.__wrapped__ else result

    def cursor(self, *args: Any, **kwargs: Any) -> CursorProxy:
        return CursorProxy(self.__wrapped__.cursor(*args, **kwargs), self, self._self_driver)
