"""`python -m backends build | where | pin | up`: see README.md of the folder above."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from . import build as building
from .errors import BackendError
from .run import Backends

STANDARD_COLLECTOR_PORTS = {"otlp_grpc": 4317, "otlp_http": 4318, "health": 13133, "metrics": 8888}
STANDARD_JAEGER_PORTS = {
    "otlp_grpc": 14317,
    "otlp_http": 14318,
    "query": 16686,
    "query_grpc": 16685,
    "health": 14133,
    "metrics": 18888,
}
STANDARD_ZIPKIN_PORTS = {"http": 9411}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m backends", description="The real back ends of otelagent.")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build or fetch what is not in the cache yet")
    build.add_argument(
        "name", nargs="*", help="collector, jaeger, zipkin (the default: these), telemetrygen, javascript"
    )
    commands.add_parser("where", help="print the cache and the programs' paths")
    commands.add_parser("pin", help="resolve builder.yaml anew into distribution/go.mod and go.sum")
    up = commands.add_parser("up", help="run all three on the standard ports until Ctrl-C")
    up.add_argument(
        "--workdir", type=Path, help="for logs and the file of received spans (default: a temporary folder)"
    )
    up.add_argument("--any-ports", action="store_true", help="take free ports instead of the standard ones")
    options = parser.parse_args(arguments)
    try:
        if options.command == "build":
            building.build(tuple(options.name))
        elif options.command == "where":
            return _where()
        elif options.command == "pin":
            building.pin()
        else:
            _up(options.workdir, options.any_ports)
    except BackendError as error:
        print(f"backends: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


def _where() -> int:
    print(f"cache      {building.cache_dir()}")
    status = 0
    for name in ("collector", "jaeger", "zipkin"):
        try:
            print(f"{name:10} {building.locate_one(name)}")
        except BackendError as error:
            print(f"{name:10} missing: {error}")
            status = 1
    return status


def _up(workdir: Path | None, any_ports: bool) -> None:
    building.locate()
    folder = workdir or Path(tempfile.mkdtemp(prefix="otelagent-backends-"))
    backends = Backends(
        folder,
        collector_ports=None if any_ports else STANDARD_COLLECTOR_PORTS,
        jaeger_ports=None if any_ports else STANDARD_JAEGER_PORTS,
        zipkin_ports=None if any_ports else STANDARD_ZIPKIN_PORTS,
    )
    signal.signal(signal.SIGTERM, _interrupt)
    with backends as b:
        print(f"OTLP/gRPC        {b.collector.otlp_grpc}")
        print(f"OTLP/HTTP        {b.collector.otlp_http}")
        print(f"Jaeger API       {b.jaeger.query_url}")
        print(f"Zipkin           {b.zipkin.ui_url}")
        print(f"received spans   {b.collector.file}")
        print(f"logs             {folder}")
        print("Ctrl-C stops all three.", flush=True)
        try:
            while all(program.running for program in b.programs):
                time.sleep(0.5)
        except KeyboardInterrupt:
            print("stopping", flush=True)
            return
        gone = next(program for program in b.programs if not program.running)
        raise BackendError(f"{gone.name} ended by itself; its log is {gone.log}")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
