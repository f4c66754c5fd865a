"""``otelagent spool``: what waits on disk, for people."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from otelagent.cli.options import UsageError, read_command_line
from otelagent.cli.progress import ProgressBar
from otelagent.cli.spool_commands import (
    commands_for,
    config_of,
    destination_of,
    refuse_blanks,
    refuse_others_credentials,
    shown,
    without_credentials,
)
from otelagent.config.settings import EXPORTERS
from otelagent.errors import ConfigError

if TYPE_CHECKING:
    from otelagent.config import Config
    from otelagent.delivery.payload import Payload
    from otelagent.delivery.result import Result
    from otelagent.delivery.spool.survey import KeySurvey
    from otelagent.delivery.transports import Transport

__all__ = ["main"]

USAGE = """\
usage: otelagent spool list|replay|verify|purge [options] [KEY…]

  list     what waits, by service and destination, which process wrote it, and the commands that send it there now
  replay   sends what dead processes have left to the configured destinations, to each what was for it; with a KEY that
           was for none of them, to the main one; an --endpoint that is a KEY's whole address is used as it is. What is
           refused because of the credentials stays on disk; those of the environment are sent to the server of the
           environment's endpoint alone
  verify   reads every record that waits and checks it; exit code 1 if one is damaged
  purge    removes what dead processes have left

A KEY is one of those that `list` shows; all are meant without one, but for `replay`: those that were for a configured
destination and tenant.

  --json                  for programs
  --older-than HOURS      purge: only what is older
  --yes                   purge: don't ask

Every setting is an option too, as of otelagent-run: --spool-directory, --endpoint, --headers, …"""

_OWN_FLAGS = ("--json", "--yes")
# How long replay goes on without anything being delivered.
_PATIENCE_S = 60.0
_LOOK_EVERY_S = 2.0


class _Options:
    """The command line, taken apart.

    :raises UsageError: it is wrong.
    """

    def __init__(self, words: Sequence[str]) -> None:
        rest = list(words)
        self.json = "--json" in rest
        self.yes = "--yes" in rest
        rest = [word for word in rest if word not in _OWN_FLAGS]
        self.before_s: float | None = None
        if "--older-than" in rest:
            at = rest.index("--older-than")
            try:
                self.before_s = time.time() - float(rest[at + 1]) * 3600
            except (IndexError, ValueError):
                raise UsageError("--older-than needs a number of hours") from None
            del rest[at : at + 2]
        line = read_command_line(rest)
        self.help = line.show == "help"
        self.settings = line.values
        refuse_blanks(self.settings)
        self.keys = tuple(line.command)
        if wrong := [key for key in self.keys if not key.isalnum()]:
            raise UsageError(f"{wrong[0]!r} is no key; options go before keys")


def main(arguments: Sequence[str]) -> int:
    """The command.

    :returns: 0 if all is well, 1 if something is damaged or left, 2 for a wrong command line or setting.
    """
    commands = {"list": _list, "replay": _replay, "verify": _verify, "purge": _purge}
    name, *words = arguments or [""]
    try:
        if name in ("--help", "-h"):
            print(USAGE)
            return 0
        if name not in commands:
            raise UsageError(f"there is no command {name!r}" if name else "a command is missing")
        options = _Options(words)
        if options.help:
            print(USAGE)
            return 0
        if name == "replay" and options.keys:
            # What is in a spool goes nowhere else, whatever applications are told to do with what is new.
            options.settings |= dict.fromkeys(EXPORTERS.values(), "otlp")
        config = without_credentials(options.settings)
        from otelagent.delivery.delivery import spool_directory

        directory = spool_directory(config.spool.directory)
        if directory is None:
            raise UsageError("there is no spool directory: the user has no home; set spool_directory")
        return commands[name](options, config, directory)
    except (UsageError, ConfigError) as error:
        print(f"otelagent spool: {error}\nsee otelagent spool --help", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"otelagent spool: {error}", file=sys.stderr)
        return 1


def _survey(options: _Options, directory: str) -> list[KeySurvey]:
    from otelagent.delivery.spool.survey import survey

    try:
        found = survey(directory, options.keys)
    except FileNotFoundError:
        found = []
    if missing := set(options.keys) - {one.key for one in found}:
        raise UsageError(f"there is no key {sorted(missing)[0]} in {directory}")
    return found


def _list(options: _Options, config: Config, directory: str) -> int:
    found = _survey(options, directory)
    if options.json:
        keys = [
            {
                "key": one.key,
                "about": dict(one.about),
                "items": one.items,
                "bytes": one.bytes,
                "entries": [{**entry._asdict(), "pid": entry.pid} for entry in one.entries],
            }
            for one in found
        ]
        print(json.dumps({"directory": directory, "keys": keys}))
        return 0
    print(directory)
    for one in found:
        print(f"\n{one.key}  {_title(one)}")
        for entry in one.entries:
            state = "in use" if entry.in_use else "left"
            since = "" if entry.oldest_s is None else f", since {_moment(entry.oldest_s)}"
            print(f"  process {entry.pid} ({state}): {entry.items:,} items, {_size(entry.bytes)}{since}")
        if not one.entries:
            print("  nothing")
    if not found:
        print("nothing waits")
    elif commands := commands_for(found, options.settings):
        print(
            "\nThe next process of a service sends what is left to the same destination.",
            *shown(commands),
            "\nWhere that was wrong, otelagent spool replay KEY sends it to the one that is set.",
            sep="\n",
        )
    return 0


def _verify(options: _Options, config: Config, directory: str) -> int:
    from otelagent.delivery.spool.survey import verify

    found = _survey(options, directory)
    with ProgressBar("verify", sum(one.bytes for one in found), "bytes") as bar:
        verified = verify(directory, options.keys, bar.add) if found else []
    if options.json:
        print(json.dumps({"directory": directory, "keys": [one._asdict() for one in verified]}))
    else:
        for result in verified:
            damage = f"{result.damaged_items:,} items are damaged" if result.damaged_items else "all is well"
            print(f"{result.key}: {result.records:,} records with {result.items:,} items; {damage}")
            for name in result.unreadable:
                print(f"  can't be read: {name}")
        if not verified:
            print("nothing waits")
    return int(any(result.damaged_items or result.unreadable for result in verified))


def _purge(options: _Options, config: Config, directory: str) -> int:
    from otelagent.delivery.spool.survey import purge

    found = _survey(options, directory)
    if found and not options.yes:
        if not sys.stdin.isatty():
            raise UsageError("purge without a terminal needs --yes")
        items = sum(one.left_items for one in found)
        sys.stderr.write(f"remove up to {items:,} items that were never delivered? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 1
    with ProgressBar("purge", sum(one.bytes for one in found), "bytes") as bar:
        purged = purge(directory, options.keys, options.before_s, bar.add) if found else []
    if options.json:
        print(json.dumps({"directory": directory, "keys": [one._asdict() for one in purged]}))
        return 0
    for result in purged:
        kept = f"; {result.in_use_items:,} items are a living process's" if result.in_use_items else ""
        print(f"{result.key}: removed {result.items:,} items, {_size(result.bytes)}{kept}")
    if not purged:
        print("nothing waits")
    return 0


def _replay(options: _Options, config: Config, directory: str) -> int:
    found = every = _survey(options, directory)
    configs = {one.key: config_of(one, options.settings) for one in every}
    if not options.keys:
        found = [one for one in found if destination_of(one, configs[one.key]) is not None]
    refuse_others_credentials((one for one in found if not destination_of(one, configs[one.key])), options.settings)
    results = [_replay_key(one, configs[one.key], directory) for one in found]
    if options.json:
        print(json.dumps({"directory": directory, "keys": results}))
    else:
        for one, result in zip(found, results, strict=True):
            left = f"; {result['left']:,} are left" if result["left"] else ""
            lost = f"; {result['lost']:,} lost" if result["lost"] else ""
            print(f"{one.key}: delivered {result['delivered']:,} of {result['items']:,} items{lost}{left}")
            if result["refused"]:
                where = configs[one.key].export(one.about.get("signal", "traces")).otlp.masked_endpoint
                print(f"  {where} refuses the credentials ({result['refused']}): what it refused stays on disk")
        if not found:
            print("nothing waits for what is configured")
            if commands := commands_for(every, options.settings):
                print(*shown(commands), sep="\n")
    return int(any(result["left"] or result["lost"] for result in results))


class _KeepsRefused:
    """A transport with which a payload that is refused for its credentials is to be sent again: they are wrong, not
    the payload. After the first one it sends nothing more.

    :ivar refused: the reason; empty as long as nothing was refused.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.refused = ""

    def send(self, payload: Payload, timeout_s: float) -> Result:
        from otelagent.delivery.result import REFUSED, Rejected, Retryable

        if self.refused:
            return Retryable(self.refused)
        result = self._transport.send(payload, timeout_s)
        if isinstance(result, Rejected) and result.reason in REFUSED:
            self.refused = result.reason
            return Retryable(result.reason, None, result.message)
        return result

    def close(self) -> None:
        self._transport.close()

    def describe(self) -> str:
        return self._transport.describe()

    def after_fork_in_child(self) -> None:
        self._transport.after_fork_in_child()


def _replay_key(one: KeySurvey, config: Config, directory: str) -> dict[str, int | str]:
    from otelagent.delivery import Ledger, open_delivery
    from otelagent.delivery.spool.place import SpoolPlace

    total = one.left_items
    ledger = Ledger(one.about.get("signal", "traces"))
    place = SpoolPlace(directory, one.key, one.about)
    transports: list[_KeepsRefused] = []

    def keep(transport: Transport) -> Transport:
        transports.append(_KeepsRefused(transport))
        return transports[0]

    destination = open_delivery(config, ledger, place, destination_of(one, config) or "", through=keep)
    destination.start()
    looked_s = progress_s = time.monotonic()
    before = 0
    with ProgressBar(f"replay {one.key}", total, "items") as bar:
        while time.monotonic() - progress_s < _PATIENCE_S:
            counts = ledger.snapshot()
            settled = counts.adopted - counts.spooled
            bar.set(settled)
            if settled != before:
                progress_s, before = time.monotonic(), settled
            if (not counts.spooled and counts.adopted >= total) or transports[0].refused:
                break
            if not counts.spooled and time.monotonic() - looked_s > _LOOK_EVERY_S:
                # A living process may have been faster. Looking takes each entry's lock for a moment: not too often.
                looked_s = time.monotonic()
                if looked_s - progress_s > _LOOK_EVERY_S and not _left(directory, one.key):
                    break
            time.sleep(0.05)
        destination.shutdown(time.monotonic() + config.exit_timeout_ms / 1000)
    counts = ledger.snapshot()
    return {
        "key": one.key,
        "items": max(total, counts.adopted),
        "delivered": counts.delivered,
        "lost": sum(counts.rejected.values()) + sum(counts.dropped.values()),
        "left": max(total - counts.adopted, 0) + counts.spooled,
        "refused": transports[0].refused,
    }


def _left(directory: str, key: str) -> int:
    from otelagent.delivery.spool.survey import survey

    return sum(one.left_items for one in survey(directory, (key,)))


def _title(one: KeySurvey) -> str:
    about = one.about
    if not about:
        return "(nothing says what it is for)"
    service = ".".join(filter(None, (about.get("service.namespace"), about.get("service.name"))))
    where = f" in {about['deployment.environment.name']}" if about.get("deployment.environment.name") else ""
    name = f" {about['name']}," if about.get("name") else ""
    place = f"{about.get('destination', '?')} ({about.get('protocol')})"
    return f"{about.get('signal', '?')} of {service}{where} →{name} {place}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def _size(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
