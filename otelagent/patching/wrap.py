"""The wrappers that run a hook around each call of a function: one for each sort of function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from otelagent.patching.hook import Call, Site
from otelagent.patching.operation import attach, current, detach

__all__ = ["wrap"]


def wrap(function: Callable[..., Any], site: Site, *, method: bool) -> Callable[..., Any]:
    """`function` with `site` around each call: a function of the same sort (sync, async, generator, async generator).

    A plain closure rather than a `wrapt.FunctionWrapper`: it costs a third of it per call, and `inspect.signature`,
    `iscoroutinefunction` and pickling by name still see what they expect.

    :param method: the first positional argument is the instance.
    """
    if inspect.isasyncgenfunction(function):
        return _wrap_async_generator(function, site, method)
    if inspect.isgeneratorfunction(function):
        return _wrap_generator(function, site, method)
    if inspect.iscoroutinefunction(function):
        return _wrap_async(function, site, method)
    return _wrap_sync(function, site, method)


def _call(method: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    return Call(args[0], args[1:], kwargs) if method and args else Call(None, args, kwargs)


def _changed(args: tuple[Any, ...], given: tuple[Any, ...], call: Call) -> tuple[Any, ...]:
    """What to call the original with, when a hook has replaced the arguments it was given."""
    return (*args[: len(args) - len(given)], *call.args)


# An exception's traceback refers to the wrapper's frame, and the call to the exception: `del call` on the
# way out leaves no reference cycle, so that an exception keeps nothing alive for longer than without us.


def _wrap_sync(function: Callable[..., Any], site: Site, method: bool) -> Callable[..., Any]:
    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        if not site.on:
            return function(*args, **kwargs)
        call = Call(args[0], args[1:], kwargs) if method and args else Call(None, args, kwargs)
        given = call.args
        entered = site.enter(call)
        if call.args is not given:
            args = _changed(args, given, call)
        if not entered:
            return function(*args, **call.kwargs)
        token = attach(call.context)
        try:
            call.result = function(*args, **call.kwargs)
        except BaseException as error:
            detach(token)
            site.leave(call, error)
            del call
            raise
        detach(token)
        return site.leave(call)

    return traced


def _wrap_async(function: Callable[..., Any], site: Site, method: bool) -> Callable[..., Any]:
    @functools.wraps(function)
    async def traced(*args: Any, **kwargs: Any) -> Any:
        if not site.on:
            return await function(*args, **kwargs)
        call = _call(method, args, kwargs)
        given = call.args
        entered = site.enter(call)
        if call.args is not given:
            args = _changed(args, given, call)
        if not entered:
            return await function(*args, **call.kwargs)
        token = attach(call.context)
        try:
            call.result = await function(*args, **call.kwargs)
        except BaseException as error:
            detach(token)
            site.leave(call, error)
            del call
            raise
        detach(token)
        return site.leave(call)

    return traced


# Generators run in their operation's context step by step: between two steps the caller's context is current, so
# nothing leaks into the caller, and a generator that is closed early, or by another task, leaves no foreign token
# behind. What the generator's own body did to the context is kept from step to step.


def _wrap_generator(function: Callable[..., Any], site: Site, method: bool) -> Callable[..., Any]:
    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        call = _call(method, args, kwargs)
        given = call.args
        entered = site.on and site.enter(call)
        if call.args is not given:
            args = _changed(args, given, call)
        generator = function(*args, **call.kwargs)
        if not entered:
            return (yield from generator)
        context = call.context
        step, value = generator.send, None
        try:
            while True:
                token = attach(context)
                try:
                    item = step(value)
                except StopIteration as stop:
                    call.result = stop.value
                    break
                finally:
                    context = current()
                    detach(token)
                    value = None
                try:
                    value = yield item
                    step = generator.send
                except GeneratorExit:
                    token = attach(context)
                    try:
                        generator.close()
                    finally:
                        detach(token)
                    raise
                except BaseException as error:
                    value, step = error, generator.throw
        except BaseException as error:
            site.leave(call, error)
            del call
            raise
        return site.leave(call)

    return traced


def _wrap_async_generator(function: Callable[..., Any], site: Site, method: bool) -> Callable[..., Any]:
    @functools.wraps(function)
    async def traced(*args: Any, **kwargs: Any) -> Any:
        call = _call(method, args, kwargs)
        given = call.args
        entered = site.on and site.enter(call)
        if call.args is not given:
            args = _changed(args, given, call)
        # An untraced call takes the same road in the caller's own context: async generators have no `yield from`.
        generator = function(*args, **call.kwargs)
        context = call.context if entered else None
        step, value = generator.asend, None
        try:
            while True:
                token = None if context is None else attach(context)
                try:
                    item = await step(value)
                except StopAsyncIteration:
                    break
                finally:
                    if token is not None:
                        context = current()
                        detach(token)
                    value = None
                try:
                    value = yield item
                    step = generator.asend
                except GeneratorExit:
                    token = None if context is None else attach(context)
                    try:
                        await generator.aclose()
                    finally:
                        if token is not None:
                            detach(token)
                    raise
                except BaseException as error:
                    value, step = error, generator.athrow
        except BaseException as error:
            if entered:
                site.leave(call, error)
            del call
            raise
        if entered:
            site.leave(call)

    return traced
