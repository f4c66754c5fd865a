"""What a span is made to do: bodies of a loop, as text.

So each peer runs them with its own names and nothing between. A body sees `span` (makes a span current) and `number`
(of the iteration), and calls methods by their names of the OpenTelemetry API, which are replaced by the peer's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from textwrap import indent
from typing import Any

from benchmarks.peers.recording import NAMES, Recording

__all__ = ["WORKLOADS", "Workload", "cold_loop_of", "loop_of", "task_of"]

_FIVE = (
    ("http.request.method", '"GET"'),
    ("url.path", '"/items/42"'),
    ("http.response.status_code", "200"),
    ("item.number", "number"),
    ("item.price", "9.75"),
)


def _attributes(count: int) -> str:
    lines = [f's.set_attribute("{_FIVE[i % 5][0]}{i // 5 or ""}", {_FIVE[i % 5][1]})' for i in range(count)]
    return 'with span("benchmark") as s:\n' + indent("\n".join(lines or ["pass"]), "    ")


@dataclass(frozen=True)
class Workload:
    """One iteration.

    :param title: for people.
    :param body: its source.
    :param spans: how many spans it makes.
    """

    title: str
    body: str
    spans: int = 1


_EVENT = """
with span("benchmark") as s:
    s.add_event("cache.miss", {"cache.key": "item:42", "cache.size": number})
"""
_EXCEPTION = """
try:
    with span("benchmark"):
        raise ValueError("no such item")
except ValueError:
    pass
"""
_CHILDREN = """
with span("benchmark"):
    with span("child"):
        with span("grandchild"):
            pass
"""

WORKLOADS: Mapping[str, Workload] = {
    "attributes-0": Workload("no attributes", _attributes(0)),
    "attributes-5": Workload("five attributes", _attributes(5)),
    "attributes-20": Workload("20 attributes", _attributes(20)),
    "event": Workload("an event with two attributes", _EVENT),
    "exception": Workload("an exception passes through", _EXCEPTION),
    "children": Workload("child in child in root, each", _CHILDREN, 3),
}


_HOT = """
def loop(count):
    for number in range(count):
{body}
"""
_COLD = """
def loop(count):
    times = []
    for number in range(count):
        touch()
        began = clock()
{body}
        times.append(clock() - began)
    return times
"""
_TASK = """
async def loop(count):
    for number in range(count):
{body}
"""


def loop_of(workload: str, recording: Recording) -> Callable[[int], None] | None:
    """A function that runs the workload so many times for this peer; None if the peer lacks a method."""
    loop: Callable[[int], None] | None = _compile(_HOT, WORKLOADS[workload].body, recording)
    return loop


def cold_loop_of(
    workload: str | None, recording: Recording, touch: Callable[[], object], clock: Callable[[], int]
) -> Callable[[int], list[int]] | None:
    """One that calls `touch` before each iteration and returns what the clock saw of each iteration.

    :param workload: None for nothing between the two looks at the clock.
    """
    body = WORKLOADS[workload].body if workload else "pass"
    loop: Callable[[int], list[int]] | None = _compile(_COLD, body, recording, touch=touch, clock=clock)
    return loop


def task_of(workload: str | None, recording: Recording, pause: Callable[[], Any]) -> Callable[[int], Any]:
    """One for an asyncio task, which awaits `pause()` inside the workload's span; None is only the pause."""
    body = WORKLOADS[workload].body.rstrip("\n") + "\n    await pause()" if workload else "await pause()"
    task: Callable[[int], Any] = _compile(_TASK, body, recording, pause=pause)
    return task


def _compile(template: str, body: str, recording: Recording, **scope: Any) -> Any:
    for name in NAMES:
        if f".{name}(" in body:
            own = recording.names.get(name, name)
            if own is None:
                return None
            body = body.replace(f".{name}(", f".{own}(")
    scope["span"] = recording.span
    exec(template.format(body=indent(body.strip("\n"), " " * 8)), scope)
    return scope["loop"]
