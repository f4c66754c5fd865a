"""``python -m benchmarks.run``: every question, every peer, in rounds that take turns; what `make bench` runs.

Each sample is written down as soon as it is there, so that an interrupted run goes on with ``--resume``. A peer that
fails, hangs or loses spans is noted and the run goes on; if otelagent is the one, the exit code tells at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

from benchmarks import budgets, report, sink, viewer_report
from benchmarks.environments import ROOT, Unavailable, python_of
from benchmarks.facts import facts
from benchmarks.peers import PEERS
from benchmarks.samples import Context, Sample, read, write

__all__ = ["ask", "main"]

QUESTIONS = (
    "span_cost",
    "cold",
    "concurrency",
    "memory",
    "startup",
    "frameworks",
    "outage",
    "throughput",
    "ingest",
    "reading",
)
# Some answers scatter less than others, or take minutes.
ROUNDS = {"memory": 2, "frameworks": 3, "concurrency": 3, "outage": 2, "throughput": 1, "ingest": 2, "reading": 1}
DEFAULT_ROUNDS = 5
RESULTS = Path(__file__).resolve().parent / "results" / "local"
MEANINGLESS = "A quick run: it shows that everything works, and its numbers mean nothing."
CHILD_TIMEOUT_S = 150


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs, prints tables and the budgets, writes results.json and results.svg."""
    options = _options(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    log = options.output / "samples.jsonl"
    done = list(read(log.read_text().splitlines())) if options.resume and log.exists() else []
    samples = list(done)
    began = time.monotonic()
    with log.open("a" if options.resume else "w") as file:
        for sample in run(options, {(one.question, one.peer, one.round, _turn(one)) for one in done}, began):
            samples.append(sample)
            file.write(write(sample) + "\n")
            file.flush()
    results = {"facts": facts(), "quick": options.quick, "samples": [json.loads(write(one)) for one in samples]}
    (options.output / "results.json").write_text(json.dumps(results, indent=0) + "\n")
    (options.output / "results.svg").write_text(report.plot(samples))
    print(report.tables(samples))
    if options.quick:
        print(MEANINGLESS)
    else:
        print(budgets.text(samples), *viewer_report.budgets(samples), sep="\n")
    print(f"{options.output / 'results.json'}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    return _verdict(samples)


def run(options: argparse.Namespace, done: set[tuple[str, str, int, str]], began: float) -> Iterator[Sample]:
    """All that the options ask for and `done` hasn't got."""
    pythons: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for peer in options.peer:
        try:
            pythons[peer] = python_of(PEERS[peer].environment, _say)
            if peer == "otelagent-native":
                _need_native(pythons[peer])
        except Unavailable as error:
            missing[peer] = f"not available here: {error}"
            pythons.pop(peer, None)
            _say(f"{peer}: {missing[peer]}")
    with sink.running(str(python_of("opentelemetry", _say))) as address:
        for name in options.question:
            question = import_module(f"benchmarks.{name}")
            rounds = 1 if options.quick else options.rounds or ROUNDS.get(name, DEFAULT_ROUNDS)
            for number in range(rounds):
                # Every other round in reverse: whoever comes after a heavy one must not always be the same.
                for turn, part in enumerate(getattr(question, "TURNS", ("",)), number):
                    peers = [
                        one for one in options.peer if one in question.PEERS and (name, one, number, part) not in done
                    ]
                    for peer in peers[:: -1 if turn % 2 else 1]:
                        if peer in missing:
                            yield Sample(name, peer, part, number, note=missing[peer])
                            continue
                        what = f"{name}, round {number + 1} of {rounds}{part and ', ' + part}"
                        _say(f"{time.monotonic() - began:5.0f} s  {what}: {peer}")
                        # All of them or none: a resumed run asks again what it finds nothing about.
                        answers = list(ask(question, Context(peer, address, options.quick, part), pythons[peer]))
                        yield from (replace(one, round=number, note=_without_paths(one.note)) for one in answers)


def _turn(sample: Sample) -> str:
    turns = getattr(import_module(f"benchmarks.{sample.question}"), "TURNS", ())
    return sample.case if sample.case in turns else ""


def ask(question: ModuleType, context: Context, python: Path) -> Iterator[Sample]:
    """The samples of one peer to one question, once; what went wrong is a sample with a note."""
    name = question.__name__.rpartition(".")[2]
    if getattr(question, "DRIVEN", False):
        yield from question.drive(context)
        return
    for part in question.PARTS:
        command = [str(python), "-m", "benchmarks.child", name, part, context.peer, context.address]
        process = subprocess.Popen(
            command + ["quick"] * context.quick,
            cwd=ROOT,
            env={**_environ(), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        trouble = ""
        try:
            output, errors = process.communicate(timeout=CHILD_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            trouble = f"hung for {CHILD_TIMEOUT_S} s"
        else:
            # The question of memory ends its process by SIGKILL.
            if process.returncode not in (0, -signal.SIGKILL):
                lines = [line for line in errors.splitlines() if line.strip()]
                trouble = lines[-1] if lines else f"exit code {process.returncode}"
        yield from read(output.splitlines())
        if trouble:
            _say(f"{context.peer}: {trouble}")
            yield Sample(name, context.peer, part, note=trouble)


def _without_paths(note: str) -> str:
    # Results are committed.
    return note.replace(f"{ROOT}/", "").replace(f"{Path.home()}/", "~/")


def _environ() -> dict[str, str]:
    kept = os.environ.items()
    return {name: value for name, value in kept if not name.startswith(("OTEL", "DD_", "LOGFIRE", "PYTHON"))}


def _need_native(python: Path) -> None:
    done = subprocess.run([python, "-c", "import otelagent_native"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable("the native engine is not built for this Python: make native")


def _verdict(samples: Sequence[Sample]) -> int:
    """1 if otelagent lost spans or failed."""
    bad = [
        one
        for one in samples
        if one.peer.startswith("otelagent")
        and (one.arrived != one.sent or (one.note and not one.note.startswith("not available")))
        and one.case != "hold-failed"
    ]
    for one in bad:
        _say(f"FAILED {one.question}, {one.peer}, {one.case}: {one.arrived} of {one.sent} arrived. {one.note}")
    return 1 if bad else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Compares otelagent with its peers.")
    parser.add_argument("--question", action="append", choices=QUESTIONS, help="only this one; may be repeated")
    parser.add_argument("--peer", action="append", choices=PEERS, help="only this one; may be repeated")
    parser.add_argument("--rounds", type=int, help="of every question, instead of as many as each needs")
    parser.add_argument("--quick", action="store_true", help="see whether everything works; the numbers mean nothing")
    parser.add_argument("--resume", action="store_true", help="go on where an interrupted run ended")
    parser.add_argument("--output", type=Path, help="folder of the results; by default a run of everything has its own")
    options = parser.parse_args(arguments)
    if options.output is None:
        # Twenty minutes of measuring aren't overwritten by a look at one question.
        part = "quick" if options.quick else "part" if options.question or options.peer else "all"
        options.output = RESULTS / part
    options.question = options.question or list(QUESTIONS)
    options.peer = options.peer or list(PEERS)
    return options


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
