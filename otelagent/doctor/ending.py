"""The checks of a command's end: how its processes ended, and what became of what they recorded."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from otelagent.config.load import KEYWORD
from otelagent.doctor.check import Check, Finding
from otelagent.doctor.journal import Process
from otelagent.doctor.observe import Observation
from otelagent.doctor.wording import count_text, setting_text

__all__ = ["CHECKS"]


def _exit(seen: Observation) -> Iterator[Finding]:
    for process in seen.processes:
        if process.last("without_agent") or not process.status.get("engine"):
            continue
        yield _exit_of(process, seen)


def _exit_of(process: Process, seen: Observation) -> Finding:
    closed, os_exit = process.last("closed"), process.last("os_exit")
    waiting = _left_behind(process, seen.agents)
    if not closed and waiting <= 0:
        answered = process.answered()
        had = (
            f"{count_text(answered, 'span')} had been delivered before" if answered else "there was nothing to deliver"
        )
        return Finding("pass", f"ended without a last delivery: {had}", about=process.title)
    if not closed and os_exit:
        advice = "end by sys.exit or by returning; else call otelagent.flush() before os._exit"
        detail = f"ended by os._exit at {os_exit['where']}: {_undelivered(waiting)}"
        return Finding("fail", detail, advice, process.title)
    if not closed:
        advice = "end it by SIGTERM and leave it time (a longer grace period, no OOM): what is killed delivers nothing"
        detail = f"killed, or it still runs: {_undelivered(waiting)}"
        return Finding("fail", detail, advice, process.title)
    spooled, late = _not_in_time(process)
    if not closed["delivered_all"] and (spooled or late):  # what was refused isn't a matter of the end
        advice = _see(seen) or f"raise {setting_text(process.sources, 'exit_timeout_ms')}"
        advice += "; what is on disk is sent later" if spooled else ""
        return Finding("warn", "not everything was delivered when it ended", advice, process.title)
    open_spans = process.total("sampled") - _ended(process)
    if open_spans > 0:
        threads = process.last("ended").get("daemon_threads")
        where = f"; daemon threads: {', '.join(threads)}" if threads else ""
        advice = "join threads and await tasks before the end: a span that never ends is never sent"
        were = "was" if open_spans == 1 else "were"
        detail = f"{count_text(open_spans, 'span')} {were} open when it ended{where}"
        return Finding("warn", detail, advice, process.title)
    return Finding("pass", "ended with nothing left to deliver", about=process.title)


def _not_in_time(process: Process) -> tuple[int, int]:
    """How many items the disk has, and how many are lost or wait because time was up."""
    books = process.status["ledger"].values()
    late = sum(one["queued"] + one["dropped"].get("shutdown", 0) for one in books)
    return sum(one["spooled"] for one in books), late


def _see(seen: Observation) -> str:
    """Where the checks of settings and destinations have said it already; empty if none failed."""
    for process in seen.agents:
        endpoint = process.status["destinations"]["traces"] if process.sources.get("endpoint") == KEYWORD else ""
        if endpoint.startswith(("http://", "https://")):
            return f"try what init() names, too: {_doctor_with(endpoint)}"
    return f"see what fails: {', '.join(seen.failed.values())}" if seen.failed else ""


def _doctor_with(masked_endpoint: str) -> str:
    """The command for a shell. What is masked would be taken as it stands, so it is left out and named."""
    url = urlsplit(masked_endpoint)
    host = url.netloc.rpartition("@")[2]
    hidden = " and ".join([*(["user"] if host != url.netloc else []), *(["query"] if url.query else [])])
    command = f"otelagent doctor {shlex.quote(f'--endpoint={url.scheme}://{host}{url.path}')}"
    return f"{command}, with its {hidden}, left out here" if hidden else command


def _undelivered(spans: int) -> str:
    return f"{count_text(spans, 'span')} {'was' if spans == 1 else 'were'} not delivered"


def _left_behind(process: Process, others: Sequence[Process]) -> int:
    """How many sampled spans nobody has answered for, and no disk has. A forked child may deliver what its parent left
    (uWSGI's)."""
    books = process.status["ledger"].get("traces", {}) if process.told_at_end else {}
    heirs = [one for one in others if one.last("started").get("forked") and one.last("started")["ppid"] == process.pid]
    inherited = sum(max(one.total("queued") - one.total("sampled"), 0) for one in heirs)
    return process.total("sampled") - process.answered() - int(books.get("spooled", 0)) - inherited


def _ended(process: Process) -> int:
    books = process.status["ledger"].get("traces", {})
    return int(books.get("ended", 0)) - int(books.get("sampled_out", 0))


def _delivery(seen: Observation) -> Iterator[Finding]:
    lost: dict[str, int] = {}
    totals = {"delivered": 0, "spooled": 0, "queued": 0}
    left_behind = 0
    unbalanced, errors = [], []
    for process in seen.agents:
        if not process.last("closed"):
            left_behind += max(_left_behind(process, seen.agents), 0)
        if not process.told_at_end:  # of what was killed the ledger is an old one
            totals["delivered"] += sum(row.counts["accepted"] for row in process.rows)
            if refused := sum(row.counts["refused"] for row in process.rows):
                lost["rejected"] = lost.get("rejected", 0) + refused
            continue
        for key, books in process.status["ledger"].items():
            if not books["balanced"]:
                unbalanced.append(f"{process.title} {key}")
            for name in totals:
                # What waits in memory when a process ends by `os._exit` waits no more: it is left behind.
                totals[name] += books[name] if name != "queued" or process.last("closed") else 0
            for kind in ("rejected", "dropped"):
                for reason, count in books[kind].items():
                    lost[f"{kind} {reason}"] = lost.get(f"{kind} {reason}", 0) + count
            error = (process.status["delivery"].get(key) or {}).get("last_error")
            if error and error["message"]:
                errors.append(f"{error['reason']}: {error['message']}")
    if not seen.agents:
        return
    said = f"; the last error was {errors[-1]}" if errors else ""
    if unbalanced:
        yield Finding("fail", f"the books don't balance: {', '.join(unbalanced)}", "tell the maintainers")
    if lost:
        shown = ", ".join(f"{count:,} {reason}" for reason, count in lost.items())
        advice = _see(seen) or "nothing like it came of the doctor's own: what differs is in the reason and the error"
        if lost.keys() == {"dropped exporter_none"}:
            advice = _see(seen) or f"set {setting_text(seen.agents[0].sources, 'exporter', 'otlp')}"
        yield Finding("fail", f"lost: {shown}{said}", advice)
    if left := totals["spooled"] + totals["queued"]:
        advice = (
            "the service's next process sends what waits to the same destination; where that was wrong, "
            "`otelagent spool list` shows it and `otelagent spool replay KEY` sends it to the one that is set now"
        )
        wait = "waits" if left == 1 else "wait"
        if see := _see(seen):
            advice = f"{see}; {advice}"
        yield Finding("warn", f"{count_text(left, 'item')} {wait} for the destination{said}", advice)
    if left_behind:
        detail = f"{count_text(totals['delivered'], 'item')} delivered; {_undelivered(left_behind)}"
        yield Finding("fail", detail, "see above how the processes end")
    elif not lost and not left and not totals["delivered"]:
        yield Finding("skip", "there was nothing to deliver")
    elif not lost and not left:
        yield Finding("pass", f"{count_text(totals['delivered'], 'item')} delivered, none lost")


CHECKS = (
    Check(
        "exit",
        "Processes end with a last delivery",
        "command",
        "`os._exit`, a kill, spans still open in daemon threads, too little time",
        "end by returning; `otelagent.flush()` before `os._exit`",
        _exit,
    ),
    Check(
        "delivery",
        "Everything is delivered",
        "command",
        "the ledgers of all processes: what was lost or waits, and the last error",
        "what the failing checks of the destination say",
        _delivery,
    ),
)
