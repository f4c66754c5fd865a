"""``otelagent ui``: the embedded collector and viewer, alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

__all__ = ["main"]

_EXTRA = "otelagent ui needs what the extra brings: pip install 'otelagent[ui]'"


def main(arguments: Sequence[str]) -> int:
    """Runs it until Ctrl-C.

    :returns: the exit code; 2 if it can't start.
    """
    options = _options(arguments)
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401

        from otelagent.viewer.process import serve
        from otelagent.viewer.store.schema import WrongFile
    except ImportError as error:
        print(f"{_EXTRA} ({error.name} is missing)", file=sys.stderr)
        return 2

    def ready(viewer: object) -> None:
        endpoints = viewer.endpoints()  # type: ignore[attr-defined]
        print(f"traces on {viewer.address}", flush=True)  # type: ignore[attr-defined]
        print(f"OTLP/HTTP is taken on {endpoints['http']}", flush=True)
        if endpoints["grpc"]:
            print(f"OTLP/gRPC is taken on {endpoints['grpc']}", flush=True)
        else:
            print(f"OTLP/gRPC is not taken: {viewer.without_grpc}", flush=True)  # type: ignore[attr-defined]

    try:
        serve(options.port, grpc_port=options.grpc_port, path=options.store, on_ready=ready)
    except (OSError, WrongFile) as error:
        print(f"otelagent ui: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="otelagent ui",
        description="Takes telemetry of any OpenTelemetry SDK on this machine, keeps it in SQLite and shows it.",
    )
    parser.add_argument(
        "--port", type=int, default=4318, help="of the page and of OTLP/HTTP [4318, or the next free one]"
    )
    parser.add_argument("--grpc-port", type=int, help="of OTLP/gRPC [4317, or the next free one]")
    parser.add_argument("--store", metavar="FILE", help="keep everything in this file [a temporary one]")
    return parser.parse_args(arguments)
