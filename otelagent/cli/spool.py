"""``otelagent spool``: what waits on disk, for people."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from otelagent.cli.options import UsageError, read_command_line
from otelagent.cli.progress import ProgressBar
from otelagent.config.mask import MASK, display
from otelagent.config.settings import EXPORTERS, SETTINGS_BY_NAME
from otelagent.errors import ConfigError

if TYPE_CHECKING:
    from otelagent.config import Config
    from otelagent.delivery.spool.survey import KeySurvey

__all__ = ["main"]

USAGE = """\
usage: otelagent spool list|replay|verify|purge [options] [KEY…]

  list     what waits, by service and destination, which process wrote it, and the commands that send it there now
  replay   sends what dead processes have left to the configured destinations, to each what was for it; with a KEY that
           was for none of them, to the main one
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
        from otelagent.config import load

        settings: dict[str, object] = dict(options.settings)
        if name == "replay" and options.keys:
            # What is in a spool goes nowhere else, whatever applications are told to do with what is new.
            settings |= dict.fromkeys(EXPORTERS.values(), "otlp")
        config = load(settings, os.environ)
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
    elif commands := _commands(found, options, config):
        print(
            "\nThe next process of a service sends what is left to the same destination. This sends it now:\n",
            *(f"  {command}" for command in commands),
            "\nWhere that was wrong, otelagent spool replay KEY sends it to the one that is set.",
            sep="\n",
        )
    return 0


def _commands(found: Sequence[KeySurvey], options: _Options, config: Config) -> list[str]:
    """What has to be typed for all that is left to be sent where it was for.

    What isn't known has to be filled in at ``...``: headers that say which tenant's it is, the user and the password of
    an address.
    """
    from otelagent.delivery.spool.place import key_of

    given = {name: display(SETTINGS_BY_NAME[name].kind, value) for name, value in options.settings.items()}
    # Where to and with which credentials is another destination's.
    kept = {name: value for name, value in given.items() if "otlp." not in SETTINGS_BY_NAME[name].path}
    commands: dict[str, list[str]] = {}
    for one in found:
        if not one.left_items:
            continue
        if _destination_of(one, config) is not None:
            commands.setdefault(_command(given), [])
            continue
        own, before = dict(kept), ""
        signal, destination = one.about.get("signal", "traces"), one.about.get("destination", MASK)
        base, protocol = destination.removesuffix(f"/v1/{signal}"), one.about.get("protocol", config.otlp.protocol)
        if base == destination and protocol != "grpc":
            # No signal's usual path: the only variable that is used as it is.
            variable = SETTINGS_BY_NAME["endpoint" if signal == "traces" else f"{signal}_endpoint"].otel[0]
            before = f"{variable}={shlex.quote(destination)} "
        else:
            own["endpoint"] = base
        if protocol != config.otlp.protocol:
            own["protocol"] = protocol
        if one.about and key_of(one.about) != one.key:
            own["headers"] = MASK
        commands.setdefault(before + _command(own), []).append(one.key)
    return [" ".join((command, *keys)).replace(MASK, "...") for command, keys in commands.items()]


def _command(settings: Mapping[str, str]) -> str:
    given = (f"{SETTINGS_BY_NAME[name].option}={value}" for name, value in settings.items())
    return shlex.join(("otelagent", "spool", "replay", *given))


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
    if not options.keys:
        found = [one for one in found if _destination_of(one, config) is not None]
    results = [_replay_key(one, config, directory) for one in found]
    if options.json:
        print(json.dumps({"directory": directory, "keys": results}))
    else:
        for one, result in zip(found, results, strict=True):
            left = f"; {result['left']:,} are left" if result["left"] else ""
            lost = f"; {result['lost']:,} lost" if result["lost"] else ""
            print(f"{one.key}: delivered {result['delivered']:,} of {result['items']:,} items{lost}{left}")
        if not found:
            print("nothing waits for what is configured")
            if commands := _commands(every, options, config):
                print("this sends what waits for others:", *(f"  {command}" for command in commands), sep="\n")
    return int(any(result["left"] or result["lost"] for result in results))


def _destination_of(one: KeySurvey, config: Config) -> str | None:
    """The name of the configured destination that a key stands for, of whatever service; None for one that isn't
    configured, or for another tenant."""
    from otelagent.delivery.delivery import spool_identity
    from otelagent.delivery.spool.place import key_of

    signal = one.about.get("signal", "traces")
    for name in config.destination_names(signal):
        identity = spool_identity(config, signal, one.about, name)
        if config.export(signal, name).exporter == "otlp" and key_of(identity) == one.key:
            return name
    return None


def _replay_key(one: KeySurvey, config: Config, directory: str) -> dict[str, int | str]:
    from otelagent.delivery import Ledger, open_delivery
    from otelagent.delivery.spool.place import SpoolPlace

    total = one.left_items
    ledger = Ledger(one.about.get("signal", "traces"))
    place = SpoolPlace(directory, one.key, one.about)
    destination = open_delivery(config, ledger, place, _destination_of(one, config) or "")
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
            if not counts.spooled and counts.adopted >= total:
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
