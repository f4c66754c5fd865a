"""``otelagent ui``: the embedded collector and viewer, alone."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from otelagent.viewer import process
from otelagent.viewer.process import DEFAULT_PORT, Running, ViewerError

if TYPE_CHECKING:
    from otelagent.viewer.server.app import Viewer

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Runs it until Ctrl-C, tells of one that runs, or ends it.

    :returns: the exit code; 1 if there is none to tell of or to end, 2 if it can't start.
    """
    options = _options(arguments)
    try:
        if options.stop:
            return _tell(process.stop(options.port), "ended", options)
        if options.status:
            return _tell(process.find(options.port), "", options)
        if options.port is None and options.store is None and (found := process.find()):
            print("a viewer runs already; otelagent ui --stop ends it, --port starts another one", file=sys.stderr)
            return _tell(found[:1], "", options)
        process.need_extra()
    except ViewerError as error:
        return _refuse(str(error))
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    from otelagent.viewer.serving import serve
    from otelagent.viewer.store.schema import WrongFile

    def ready(viewer: Viewer, state: object) -> None:
        endpoints = viewer.endpoints()
        print(f"traces on {viewer.address}", flush=True)
        print(f"OTLP/HTTP is taken on {endpoints['http']}", flush=True)
        if endpoints["grpc"]:
            print(f"OTLP/gRPC is taken on {endpoints['grpc']}", flush=True)
        else:
            print(f"OTLP/gRPC is not taken: {viewer.without_grpc}", flush=True)

    try:
        serve(
            options.port,
            grpc_port=options.grpc_port,
            path=options.store,
            idle_s=options.idle * 60 if options.idle is not None else None,
            on_ready=ready,
        )
    except (OSError, WrongFile) as error:
        if options.port and (found := process.find(options.port)):
            there = f"a viewer of yours runs on port {options.port}"
            return _refuse(f"{there}: otelagent ui --stop --port {options.port} ends it ({found[0].http})")
        return _refuse(str(error))
    except KeyboardInterrupt:
        return 130
    return 0


def _tell(found: list[Running], what: str, options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps([asdict(one) for one in found]))
    elif not found:
        others = ", ".join(one.http for one in process.find()) if options.port is not None else ""
        where = f" on port {options.port}" if others else ""
        print(f"no viewer of yours runs{where}{f'; there is {others}' if others else ''}")
    for one in () if options.json else found:
        print(f"{what} {one.http}" if what else f"traces on {one.address}")
        if not what:
            print(f"OTLP/HTTP is taken on {one.http}")
            if one.grpc is not None:
                print(f"OTLP/gRPC is taken on {one.grpc}")
    return 0 if found else 1


def _refuse(problem: str) -> int:
    print(f"otelagent ui: {problem}", file=sys.stderr)
    return 2


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 1 to 65535, or 0 for any")
    return int(text)


def _minutes(text: str) -> float:
    minutes = float(text)
    if not minutes > 0:
        raise ValueError
    return minutes


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="otelagent ui",
        description=(
            "Takes telemetry of any OpenTelemetry SDK on this machine, keeps it in SQLite and shows it. If a viewer of "
            "yours runs already, its address is printed instead, unless --port or --store asks for another one."
        ),
    )
    default = f"[{DEFAULT_PORT}, or the next free one]"
    parser.add_argument("--port", type=_port, help=f"of the page and of OTLP/HTTP, 0 for any {default}")
    parser.add_argument("--grpc-port", type=_port, help="of OTLP/gRPC, 0 for any [4317, or the next free one]")
    parser.add_argument("--store", metavar="FILE", help="keep everything in this file [a temporary one]")
    parser.add_argument(
        "--idle",
        type=_minutes,
        metavar="MINUTES",
        help="end after so long with neither telemetry nor an open page [never]",
    )
    parser.add_argument("--stop", action="store_true", help="end your viewers, or the one on --port")
    parser.add_argument("--status", action="store_true", help="print where your viewers are")
    parser.add_argument("--json", action="store_true", help="with --status and --stop: as JSON, for scripts")
    return parser.parse_args(arguments)
