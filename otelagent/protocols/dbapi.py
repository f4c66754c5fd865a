"""DB-API 2.0 drivers: one span for each statement, wherever in the driver it is executed.

Three ways in, by what the driver allows; each ends in the same description (`Driver.describe`):

- types that can be subclassed but not patched (C extensions with connection and cursor factories: sqlite3, psycopg2):
  the driver makes our subclasses (`Driver.connect`, `connection_class`, `cursor_class`). This costs the least, and
  whoever asks for the type, in Python or in C, finds the driver's own;
- classes written in Python (psycopg, PyMySQL): their `execute` is hooked like any method, with
  ``@hook("pymysql.cursors", "Cursor.execute")`` and ``return self.driver.describe("execute", call)``;
- types that can't be subclassed: a proxy (`trace_connection`), which makes every use of the object a little slower.

Not traced: fetching, commit and rollback. They aren't queries, and a span for each row or transaction end says little.

Source: PEP 249
"""

from __future__ import annotations

import functools
import inspect
import logging
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from otelagent.patching.hook import Call, Site
from otelagent.patching.instrumentation import Instrumentation
from otelagent.patching.operation import attach, detach
from otelagent.patching.switch import SWITCH
from otelagent.patching.wrap import wrap
from otelagent.semconv.db import UNKNOWN_SIZE, Peer, Query

__all__ = ["Driver", "FactoryArgument"]

_log = logging.getLogger("otelagent.instrumentation")

#: What a cursor is told to execute; PEP 249 and sqlite3's scripts.
VERBS = ("execute", "executemany", "executescript", "callproc")

# Queries are described once for each peer and text. Long texts aren't kept, and each is described when it comes.
_KEPT_QUERIES = 1024
_KEPT_LENGTH = 2048

# What drivers call the first argument of `VERBS`.
_QUERY_ARGUMENTS = ("operation", "query", "sql", "statement", "procname")

#: Where a traced connection keeps its `Peer`, and the mark of a traced cursor class.
PEER = "_otelagent_peer"
TRACED = "_otelagent_traced"


class FactoryArgument(NamedTuple):
    """The argument by which a driver is told what class to make.

    :ivar position: among the positional arguments, without the instance.
    :ivar name: as a keyword.
    :ivar none_is_default: ``None`` means the same as leaving it out.
    """

    position: int
    name: str
    none_is_default: bool = False

    def inject(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        default: type,
        traced: Callable[[Any], Any],
    ) -> tuple[Any, ...]:
        """Replace the class given, or the default, by its traced subclass: in `kwargs`, or in the `args` returned."""
        position = self.position
        if position < len(args):
            given = args[position]
        elif self.name in kwargs:
            given = kwargs[self.name]
        else:
            kwargs[self.name] = traced(default)
            return args
        if given is None and self.none_is_default:
            given = default
        if position < len(args):
            return (*args[:position], traced(given), *args[position + 1 :])
        kwargs[self.name] = traced(given)
        return args


class Driver:
    """One driver, as its instrumentation describes it.

    :param instrumentation: whose tracer, layer and state count.
    :param system: ``db.system.name``.
    :param connection: the type of its connections.
    :param cursor: the type of its cursors.
    :param peer: what a connection made with these arguments leads to; called once for each connection, as
        ``peer(connection, args, kwargs)``.
    :param cursor_factory: the argument of `connection.cursor` that names a class.
    :param connection_shortcuts: methods of the connection which make a cursor and execute on it without asking the
        connection's own `cursor`.
    :param text: the SQL of what `execute` was given, where that may be something else than a string; called as
        ``text(cursor, query)``.
    """

    def __init__(
        self,
        instrumentation: Instrumentation,
        system: str,
        *,
        connection: type,
        cursor: type,
        peer: Callable[[Any, tuple[Any, ...], dict[str, Any]], Peer],
        cursor_factory: FactoryArgument,
        connection_shortcuts: tuple[str, ...] = (),
        text: Callable[[Any, Any], str | None] | None = None,
    ) -> None:
        self._connection = connection
        self._cursor = cursor
        self._peer = peer
        self._cursor_factory = cursor_factory
        self._shortcuts = connection_shortcuts
        self._text = text
        self._unknown = Peer(system)
        where = f"{cursor.__module__}:{cursor.__qualname__}"
        self._sites = {verb: instrumentation.site(self._describer(verb), f"{where}.{verb}") for verb in VERBS}
        self._on = self._sites["execute"]
        # By the class they trace; one that nothing uses any more goes with it.
        self._classes: weakref.WeakValueDictionary[type, type] = weakref.WeakValueDictionary()
        self.traced_cursor = self._make_cursor_class(cursor)
        self.traced_connection = self._make_connection_class()

    def describe(self, verb: str, call: Call) -> Query:
        """The query of a cursor's `verb` (one of `VERBS`), for any way in and for async cursors alike."""
        cursor, args = call.instance, call.args
        peer = self.peer(cursor)
        given = args[0] if args else _named(call.kwargs)
        if verb == "callproc":
            return Query(peer, procedure=given if isinstance(given, str) else None, operation="CALL")
        text = given if type(given) is str else self._text_of(cursor, given)
        if verb == "executemany":
            return Query(peer, text, batch=_size(call))
        if text is not None and len(text) <= _KEPT_LENGTH:
            return self._query(peer, text)
        return Query(peer, text)

    def _describer(self, verb: str) -> Callable[[Call], Query]:
        describe, unknown = functools.partial(self.describe, verb), self._unknown
        if verb != "execute":
            return describe
        kept = self._query = functools.lru_cache(_KEPT_QUERIES)(Query)

        def described(call: Call) -> Query:
            # The same as `describe` for what is nearly every call: a string, passed by position, seen before.
            args = call.args
            if args and type(text := args[0]) is str and len(text) <= _KEPT_LENGTH:
                return kept(getattr(call.instance.connection, PEER, unknown), text)
            return describe(call)

        return described

    def peer(self, cursor: Any) -> Peer:
        """Where a cursor's connection leads."""
        peer: Peer = getattr(cursor.connection, PEER, self._unknown)
        return peer

    def _text_of(self, cursor: Any, given: Any) -> str | None:
        if isinstance(given, str):
            return str(given)
        if isinstance(given, (bytes, bytearray)):
            return given.decode("utf-8", "replace")
        return None if self._text is None or given is None else self._text(cursor, given)

    def connect(self, original: Callable[..., Any], factory: FactoryArgument) -> Callable[..., Any]:
        """A replacement of the driver's `connect` whose connections are traced."""
        on, default, inject, traced = self._on, self._connection, factory.inject, self.connection_class

        @functools.wraps(original)
        def connect(*args: Any, **kwargs: Any) -> Any:
            if on.on:
                args = inject(args, kwargs, default, traced)
            return original(*args, **kwargs)

        return connect

    def connection_class(self, cls: Any) -> Any:
        """A traced subclass of a connection class; anything else comes back as it is."""
        if cls is self._connection:
            return self.traced_connection
        if not _is_subclass(cls, self._connection) or issubclass(cls, self.traced_connection):
            return cls  # traced already, or nothing to derive from
        # Ours stands between the application's class and the driver's: its methods meet what `super()` calls.
        return self._subclass(cls, (cls, self.traced_connection), {"__slots__": ()})

    def cursor_class(self, cls: Any) -> Any:
        """A traced subclass of a cursor class; any other factory gives its cursors traced where that is possible."""
        if cls is self._cursor:
            return self.traced_cursor
        if _is_subclass(cls, self._cursor):
            return cls if hasattr(cls, TRACED) else self._traced_cursor_class(cls)
        if isinstance(cls, type) or not callable(cls):
            return cls
        return functools.wraps(cls)(lambda connection: self._adopt(cls(connection)))

    def _traced_cursor_class(self, cls: type) -> type:
        return self._subclass(cls, (cls,), self._cursor_namespace(cls))

    def _adopt(self, cursor: Any) -> Any:
        cls = type(cursor)
        if _is_subclass(cls, self._cursor) and not hasattr(cls, TRACED):
            try:
                cursor.__class__ = self._traced_cursor_class(cls)
            except TypeError:
                pass  # the driver's own type, or another layout in memory
        return cursor

    def _subclass(self, cls: type, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
        made = self._classes.get(cls)
        if made is None:
            try:
                made = self._classes[cls] = type(cls)(cls.__name__, bases, _dressed(cls, namespace))
            except Exception as error:
                # A metaclass or __init_subclass__ that wants something else of its subclasses.
                _log.warning("%s.%s can't be traced", cls.__module__, cls.__qualname__, exc_info=error)
                return cls
        return made

    def _make_cursor_class(self, cls: type) -> type:
        return type(cls)(cls.__name__, (cls,), _dressed(cls, self._cursor_namespace(cls)))

    def _cursor_namespace(self, cls: type) -> dict[str, Any]:
        namespace: dict[str, Any] = {
            verb: _traced(getattr(cls, verb), self._sites[verb]) for verb in VERBS if hasattr(cls, verb)
        }
        return {**namespace, "__slots__": (), TRACED: True}

    def _make_connection_class(self) -> type:
        base, on, inject = self._connection, self._on, self._cursor_factory.inject
        default_cursor, cursor_class, peer = self._cursor, self.cursor_class, self._peer
        make: Callable[..., None] = base.__init__  # type: ignore[misc]
        make_cursor: Callable[..., Any] = base.cursor  # type: ignore[attr-defined]

        @functools.wraps(make)
        def __init__(connection: Any, *args: Any, **kwargs: Any) -> None:
            make(connection, *args, **kwargs)
            try:
                setattr(connection, PEER, peer(connection, args, kwargs))
            except Exception as error:
                _log.debug("where a connection leads is unknown", exc_info=error)

        @functools.wraps(make_cursor)
        def cursor(connection: Any, *args: Any, **kwargs: Any) -> Any:
            if on.on:
                args = inject(args, kwargs, default_cursor, cursor_class)
            return make_cursor(connection, *args, **kwargs)

        namespace: dict[str, Any] = {"__slots__": (PEER,), "__init__": __init__, "cursor": cursor}
        for verb in self._shortcuts:
            namespace[verb] = self._shortcut(getattr(base, verb), verb, cursor)
        return type(base)(base.__name__, (base,), _dressed(base, namespace))

    def _shortcut(self, original: Callable[..., Any], verb: str, cursor: Callable[..., Any]) -> Callable[..., Any]:
        on = self._on

        @functools.wraps(original)
        def shortcut(connection: Any, *args: Any, **kwargs: Any) -> Any:
            if not on.on:
                return original(connection, *args, **kwargs)
            return getattr(cursor(connection), verb)(*args, **kwargs)

        return shortcut

    def trace_connection(self, connection: Any, *args: Any, **kwargs: Any) -> Any:
        """A proxy of a connection made with `args`, for drivers whose types can't be subclassed."""
        from otelagent.protocols.dbapi_proxy import ConnectionProxy

        return ConnectionProxy(connection, self, self._peer(connection, args, kwargs))

    def site(self, verb: str) -> Site:
        """Where calls of `verb` are traced."""
        return self._sites[verb]


def _traced(original: Callable[..., Any], site: Site) -> Callable[..., Any]:
    """A cursor's method with `site` around it: `wrap` for what may cost least: a query that takes a microsecond."""
    if inspect.iscoroutinefunction(original):
        return wrap(original, site, method=True)

    @functools.wraps(original)
    def traced(cursor: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not SWITCH.recording or not site.on or not site.enter(call := Call(cursor, args, kwargs)):
            return original(cursor, *args, **kwargs)
        token = attach(call.context)
        try:
            result = original(cursor, *args, **kwargs)
        except BaseException as error:
            detach(token)
            site.leave(call, error)
            del call
            raise
        detach(token)
        site.leave(call)
        return result

    return traced


def _is_subclass(cls: Any, of: type) -> bool:
    return inspect.isclass(cls) and issubclass(cls, of)


def _dressed(cls: type, namespace: dict[str, Any]) -> dict[str, Any]:
    """A subclass's namespace that makes it look like the class it traces."""
    return {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__, **namespace}


def _named(kwargs: dict[str, Any]) -> Any:
    return next((kwargs[name] for name in _QUERY_ARGUMENTS if name in kwargs), None)


def _size(call: Call) -> int:
    """How many sets of parameters an `executemany` was given. An iterator isn't touched."""
    if len(call.args) > 1:
        parameters = call.args[1]
    else:
        parameters = next((value for name, value in call.kwargs.items() if name not in _QUERY_ARGUMENTS), None)
    try:
        return len(parameters)
    except TypeError:
        return UNKNOWN_SIZE
