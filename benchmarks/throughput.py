"""The highest rate of spans that one process holds without losing any, into the real collector, which writes a file.

A search in short trials first, then the rate it found is held for a minute. A rate is held when every span that was
made has arrived, by the collector's own count and by its file, otelagent's ledger says so too, the rate was reached,
and hardly anything was left to export at the end.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.environments import ROOT, Unavailable, python_of
from benchmarks.peers import PEERS as ALL
from benchmarks.samples import Context, Sample

__all__ = ["DRIVEN", "PEERS", "Trial", "count_in_file", "drive"]

PEERS = ("opentelemetry", "otelagent-sdk", "otelagent-native")
PARTS = ("",)
DRIVEN = True
"""Not asked in the peer's process: a collector and generators have to be started."""

FIRST, LAST = 5_000, 400_000
"""The search doubles from the first, and stops at the last."""
HALVINGS = 3
STEP_DOWN = 0.85
GOAL = 200_000
COLLECTOR_ENVIRON = {"GOGC": "400"}
"""Go collects garbage at five times what is live instead of twice: nearly half of its CPU at such rates."""
TRIAL_S = 5.0
HOLD_S = 60.0
MAX_BACKLOG_S = 1.0
_SENT = re.compile(r"^otelcol_receiver_accepted_spans(?:_total|__spans__total)?\{.*\} ([0-9.e+]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Trial:
    """What came of one rate.

    :param wanted: spans a second.
    :param made: what the generator says, see `generator`.
    :param accepted: spans by the collector's own metric.
    :param written: spans in the collector's file.
    :param collector_s: CPU seconds of the collector.
    """

    wanted: float
    made: dict[str, Any] = field(default_factory=dict)
    accepted: int = 0
    written: int = 0
    collector_s: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether everything arrived, and the books agree."""
        spans = self.made["spans"]
        ledger = self.made["ledger"]
        exact = not ledger or (ledger["ended"] == ledger["delivered"] == spans and ledger["balanced"])
        return self.accepted == self.written == spans and exact

    @property
    def held(self) -> bool:
        """Whether the rate was."""
        made = self.made
        return self.complete and made["rate"] >= 0.99 * self.wanted and made["backlog_s"] <= MAX_BACKLOG_S

    def __str__(self) -> str:
        made, lost = self.made, self.made["spans"] - self.written
        state = "held" if self.held else f"not held: {lost} lost" if lost else "not held"
        return (
            f"{self.wanted:.0f}/s for {made['seconds']:.0f} s: {state}; {made['rate']:.0f}/s made, "
            f"{made['backlog_s']:.1f} s behind, {made['process_s'] / made['spans'] * 1e6:.2f} µs of CPU a span, "
            f"the collector {self.collector_s / max(self.accepted, 1) * 1e6:.2f} µs"
        )


def drive(context: Context) -> Iterator[Sample]:
    """Searches, then holds; yields nothing about the search but its result."""
    try:
        python = python_of(ALL[context.peer].environment, _say)
        if context.quick:
            trial = run_trial(python, context.peer, 500, 1.0)
            yield _sample(context.peer, "hold", trial)
            return
        found = _search(lambda rate: _holds(python, context.peer, rate))
        if not found:
            yield Sample("throughput", context.peer, "hold", note=f"doesn't hold {FIRST} spans a second")
            return
        for rate in _to_hold(found):
            trial = run_trial(python, context.peer, rate, HOLD_S)
            yield _sample(context.peer, "hold" if trial.held else "hold-failed", trial)
            if trial.held:
                return
    except Unavailable as error:
        yield Sample("throughput", context.peer, "hold", note=f"not available here: {error}")
    except RuntimeError as error:
        yield Sample("throughput", context.peer, "hold", note=str(error))


def _search(holds: Callable[[int], bool]) -> int:
    """The highest rate that holds for a short time, 0 if not even the first; to an eighth of it."""
    low, high = 0, FIRST
    while high <= LAST and holds(high):
        low, high = high, 2 * high
    if not low or high > LAST:
        return low
    for _ in range(HALVINGS):
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _to_hold(found: int) -> list[int]:
    """What to try for a minute: what the search found, less and less, and the goal if it is below that."""
    rates = {round(found * STEP_DOWN**step) for step in range(3)}
    return sorted(rates | ({GOAL} if found >= GOAL else set()), reverse=True)


def _holds(python: Path, peer: str, rate: int) -> bool:
    # A second chance: a machine has moments.
    return any(run_trial(python, peer, rate, TRIAL_S).held for _ in range(2))


def run_trial(python: Path, peer: str, rate: float, seconds: float) -> Trial:
    """One generator into one fresh collector.

    :raises Unavailable: the collector has not been built.
    :raises RuntimeError: the collector or the generator failed.
    """
    sys.path.insert(0, str(ROOT / "collector-config"))
    try:
        import backends
    finally:
        sys.path.pop(0)
    with tempfile.TemporaryDirectory(prefix="otelagent-throughput-") as folder:
        try:
            overlay = Path(__file__).with_name("collector.yaml")
            with backends.Collector(folder, overlays=[overlay], env=COLLECTOR_ENVIRON) as collector:
                command = [
                    str(python),
                    "-m",
                    "benchmarks.generator",
                    peer,
                    collector.otlp_http,
                    str(rate),
                    str(seconds),
                ]
                done = subprocess.run(
                    command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds + 150
                )
                if done.returncode:
                    raise RuntimeError(f"the generator failed: {done.stderr[-300:]}")
                accepted = _accepted(f"http://{collector.address('metrics')}/metrics")
                collector_s = _cpu_s(collector.pid)
                written = count_in_file(collector.file)
        except backends.MissingBinary as error:
            raise Unavailable("the real collector is not built: make backends") from error
        except (backends.BackendError, subprocess.TimeoutExpired) as error:
            raise RuntimeError(str(error)) from error
    trial = Trial(rate, json.loads(done.stdout.splitlines()[-1]), accepted, written, collector_s)
    _say(f"throughput, {peer}: {trial}")
    return trial


def count_in_file(path: Path) -> int:
    """The spans in a file of OTLP JSON lines, which may have gigabytes; none of them has links."""
    spans, rest = 0, b""
    mark = b'"spanId"'
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            block = rest + chunk
            spans += block.count(mark)
            rest = block[-(len(mark) - 1) :]
    return spans


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _accepted(url: str) -> int:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return sum(int(float(number)) for number in _SENT.findall(answer.read().decode()))


def _sample(peer: str, case: str, trial: Trial) -> Sample:
    made = trial.made
    values = {
        "spans_per_s": made["rate"],
        "seconds": made["seconds"],
        "process_us": made["process_s"] / made["spans"] * 1e6,
        "thread_us": made["thread_s"] / made["spans"] * 1e6,
        "backlog_s": made["backlog_s"],
        "collector_us": trial.collector_s / max(trial.accepted, 1) * 1e6,
    }
    note = "" if trial.held else str(trial)
    return Sample("throughput", peer, case, values=values, sent=made["spans"], arrived=trial.written, note=note)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
