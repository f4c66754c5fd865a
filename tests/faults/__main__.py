"""`python -m tests.faults`: runs the faults and prints a line for each; 1 is its code if one doesn't hold."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import put_between_markers
from tests.faults.bench import Bench
from tests.faults.outcome import Outcome, judge, total
from tests.faults.registry import Case, Fault, load
from tests.faults.table import HEADING, Row, markdown, rows, text

SUBJECTS = ("native", "sdk", "stock")
AT_ONCE = 3
MARKERS = ("<!-- faults:begin -->", "<!-- faults:end -->")


@dataclass(frozen=True)
class Unit:
    """One case of one fault for one subject."""

    fault: Fault
    case: Case
    subject: str

    def run(self, folder: Path) -> Outcome:
        """Runs it; never raises."""
        directory = Path(tempfile.mkdtemp(dir=folder))
        bench = Bench(self.subject, directory)
        begun = time.monotonic()
        try:
            try:
                self.case.run(bench)
                for application in bench.applications:
                    application.listen()
            finally:
                bench.close()
            outcome = judge(bench)
        except Exception as error:
            errors = "".join(application.errors[-500:] for application in bench.applications)
            outcome = Outcome(self.subject, complaints=[f"the run ended with {type(error).__name__}: {error} {errors}"])
        outcome.seconds = time.monotonic() - begun
        shutil.rmtree(directory, ignore_errors=True)
        return outcome


class Progress:
    """How far it is, on standard error if that is a terminal."""

    def __init__(self, whole: int) -> None:
        self._whole = whole
        self._done = 0
        self._lock = threading.Lock()
        self._begun = time.monotonic()

    def add(self, _: Future[Outcome]) -> None:
        """One more is done."""
        with self._lock:
            self._done += 1
            self.show()

    def show(self) -> None:
        """Shows it."""
        if sys.stderr.isatty():
            spent = time.monotonic() - self._begun
            sys.stderr.write(f"\r\x1b[K{self._done} of {self._whole} runs, {spent:.0f} s")
            sys.stderr.flush()

    def hide(self) -> None:
        """Clears the line for others."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def main() -> int:
    options = arguments()
    faults = [fault for fault in load() if not options.only or fault.number in options.only]
    if missing := options.only - {fault.number for fault in faults}:
        print(f"no fault {', '.join(map(str, sorted(missing)))}", file=sys.stderr)
        return 2
    units = [
        Unit(fault, case, subject)
        for fault in faults
        for case in fault.cases
        for subject in options.engine
        if subject != "stock" or not fault.stock
    ]
    progress = Progress(len(units))
    holds, table, results = True, [], []
    print(text(Row(HEADING)))
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, pools() as (busy, idle):
        running = {}
        for unit in units:
            running[unit.fault.number, unit.case.name, unit.subject] = future = (
                idle if unit.case.idle else busy
            ).submit(unit.run, Path(folder))
            future.add_done_callback(progress.add)
        for fault in faults:
            outcomes = {}
            for subject in options.engine:
                if subject == "stock" and fault.stock:
                    continue
                cases = [(case.name, running[fault.number, case.name, subject].result()) for case in fault.cases]
                outcomes[subject] = total(cases)
                results += [
                    {"number": fault.number, "title": fault.title, "case": name, **outcome.to_dict()}
                    for name, outcome in cases
                ]
            made = rows(fault, outcomes)
            table += made
            progress.hide()
            print("\n".join(map(text, made)), flush=True)
            progress.show()
            holds &= all(outcome.holds for subject, outcome in outcomes.items() if subject != "stock")
        progress.hide()
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.write:
        options.write.write_text(put_between_markers(options.write.read_text(), markdown(table), MARKERS))
    return 0 if holds else 1


@contextmanager
def pools() -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
    """For cases that need the processor, and for those that mostly wait."""
    with ThreadPoolExecutor(AT_ONCE) as busy, ThreadPoolExecutor(12) as idle:
        try:
            yield busy, idle
        except BaseException:
            for pool in (busy, idle):
                pool.shutdown(wait=False, cancel_futures=True)
            raise


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description="Run the faults every release survives."
    )
    parser.add_argument(
        "--only", type=lambda value: {int(number) for number in value.split(",")}, default=set(), metavar="1,4,17"
    )
    parser.add_argument("--engine", action="append", choices=SUBJECTS, help="this subject; repeat for more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what every case came to")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between the markers of this file")
    options = parser.parse_args()
    if options.write and (options.only or options.engine):
        parser.error("--write needs a run of everything")
    options.engine = options.engine or list(SUBJECTS)
    return options


if __name__ == "__main__":
    sys.exit(main())
