"""The demo: two services under `otelagent-run`, and their traces read back from a real Jaeger and a real Zipkin.

Run it with `python examples/shop/demo.py`. It needs the back ends' programs (`make backends`) and builds nothing.
It starts the collector, Jaeger and Zipkin on free ports, then the shop (whose code knows nothing of telemetry), sends
requests through every path of it, prints each trace as a tree, and checks that the collector, Jaeger and Zipkin tell
the same. `--keep` leaves everything running to look around. Exit status: 0 all is well, 1 it isn't, 2 it could not
start, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "collector-config")]

import backends  # noqa: E402
from backends import Backends, Span  # noqa: E402
from examples.shop.serve import Service, ServiceError, gateway, inventory  # noqa: E402
from examples.shop.visits import VISITS, DemoFailure, Visit, background_trace, read_back, recorded, traces_of_visits  # noqa: E402

BATCH_DELAY_MS = 200
RESTOCK_S = 0.5
LOG_TAIL_LINES = 15

# The names have the method and the route already.
SHOWN = (
    "url.path",
    "url.full",
    "http.response.status_code",
    "db.system.name",
    "db.query.text",
    "error.type",
)


class Screen:
    """What is printed, in colours or without."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def say(self, text: str = "") -> None:
        print(text, flush=True)

    def headline(self, text: str) -> None:
        self.say("\n" + self.paint("1", text))

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """A line of progress; how long it took is added when it is done."""
        print(f"· {text} … ", end="", flush=True)
        started = time.monotonic()
        try:
            yield
        except BaseException:
            self.say(self.paint("31", "failed"))
            raise
        self.say(self.paint("2", f"{time.monotonic() - started:.1f} s"))

    def tree(self, spans: Sequence[Span]) -> None:
        for line in backends.tree(spans, attributes=SHOWN).splitlines():
            bad = "  ERROR" in line or "(missing parent" in line or "(duplicate id)" in line
            self.say("  " + (self.paint("31", line) if bad else line))


def main() -> int:
    options = _options()
    screen = Screen(not options.no_color and sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    signal.signal(signal.SIGTERM, _interrupt)
    workdir = Path(tempfile.mkdtemp(prefix="otelagent-demo-"))
    services: list[Service] = []
    try:
        with ExitStack() as stack:
            try:
                _run(screen, workdir, stack, services, keep=options.keep)
            except (DemoFailure, ServiceError, TimeoutError, OSError, backends.BackendError) as error:
                _explain(screen, error, services, workdir)
                return 2 if isinstance(error, backends.MissingBinary) else 1
    except KeyboardInterrupt:
        screen.say("\nstopped; everything that was started has ended")
        return 130
    finally:
        shutil.rmtree(workdir, ignore_errors=True)
    return 0


def _run(screen: Screen, workdir: Path, stack: ExitStack, services: list[Service], *, keep: bool) -> None:
    started = time.monotonic()
    backends.locate()
    with screen.step("starting the collector, Jaeger and Zipkin"):
        back = stack.enter_context(Backends(workdir))

    # Each protocol once. Health checks are nothing that anyone wants to see in a trace.
    common = ["--batch-schedule-delay-ms", str(BATCH_DELAY_MS), "--excluded-urls", "/health$"]
    http = ["--service-name", "gateway", "--endpoint", back.collector.otlp_http, *common]
    grpc = ["--service-name", "inventory", "--protocol", "grpc", "--endpoint", back.collector.otlp_grpc, *common]
    stock = inventory(workdir, "gunicorn", agent=grpc, env={"SHOP_RESTOCK_S": str(RESTOCK_S)})
    # gunicorn opens its port before it can answer, uvicorn only then.
    front = gateway(workdir, stock.url, "uvicorn", agent=http, health=None)
    services += [stock, front]
    with screen.step("starting the inventory (Flask, gunicorn, SQLite) and the gateway (FastAPI, uvicorn)"):
        for service in services:
            stack.callback(service.close)
            service.launch()
        for service in services:
            service.wait_ready()
    for service in services:
        screen.say(screen.paint("2", f"    {service.command_line()}"))

    with screen.step(f"sending {len(VISITS)} kinds of requests"):
        for visit in VISITS:
            _pay(front, visit)
    with screen.step("waiting for their spans in the collector's file, Jaeger and Zipkin"):
        file = recorded(back)
        shown = traces_of_visits(file)
        background = background_trace(file)
        jaeger, zipkin = read_back(back, file)

    crossing = 0
    for position, visit in enumerate(VISITS):
        trace_id = shown[visit.request]
        screen.headline(f"{visit.title}: {visit.request} → {visit.status}")
        _show(screen, back, jaeger[trace_id], zipkin[trace_id], whole_zipkin=position == 0)
        crossing += len({span.service for span in jaeger[trace_id]}) > 1
    if background is not None:
        screen.headline("Without any request: a background thread fills the shelves")
        _show(screen, back, jaeger[background], zipkin[background], whole_zipkin=False)

    screen.headline("Checked")
    spans = [span for trace in file.values() for span in trace]
    screen.say(f"  {len(spans)} spans in {len(file)} traces: ids, parents, names, kinds and services are the same in")
    screen.say("  the collector's file, Jaeger and Zipkin")
    screen.say(f"  {crossing} traces cross both services; every request has one SERVER span, below the CLIENT span of")
    screen.say("  its caller; no span's parent is missing")
    screen.say(f"  Jaeger {back.jaeger.query_url}/api/v3/services (API; this build has no page)")
    screen.say(f"  Zipkin {back.zipkin.ui_url}/")
    screen.say("  The traces that aren't shown are the shop's own: it makes its tables and fills its shelves.")
    if not keep:
        screen.say("  These addresses answer while the demo runs: make demo-backends ARGS=--keep keeps it running.")
    screen.say(screen.paint("32", f"All is well, after {time.monotonic() - started:.1f} s."))
    if keep:
        screen.say(f"\nEverything stays up; the shop is at {front.url}/products. Ctrl-C ends it.")
        with suppress(KeyboardInterrupt):
            while True:
                signal.pause()


def _pay(front: Service, visit: Visit) -> None:
    status, body = front.request(visit.method, visit.path, body=visit.body)
    if status != visit.status:
        raise DemoFailure(f"{visit.request} was answered with {status}, not {visit.status}: {body[:300]}")


def _show(screen: Screen, back: Backends, jaeger: list[Span], zipkin: list[Span], *, whole_zipkin: bool) -> None:
    trace_id = jaeger[0].trace_id
    screen.tree(jaeger)
    screen.say(screen.paint("2", f"  Jaeger  {back.jaeger.query_url}/api/v3/traces/{trace_id}"))
    same = f"the same {len(zipkin)} spans" if len(zipkin) > 1 else "the same span"
    screen.say(screen.paint("2", f"  Zipkin  {back.zipkin.ui_url}/traces/{trace_id}  {same}"))
    if whole_zipkin:
        screen.say("  The same from Zipkin, which writes names in lower case:")
        screen.tree(zipkin)


def _explain(screen: Screen, error: Exception, services: Sequence[Service], workdir: Path) -> None:
    screen.say("\n" + screen.paint("31", f"The demo failed: {error}"))
    if isinstance(error, (backends.MissingBinary, ServiceError)):
        return  # says it all: how to get the program, or the end of the service's log
    for service in services:
        screen.say("\n" + service.log_tail(LOG_TAIL_LINES))
    log = workdir / "collector.log"
    lines = log.read_text().splitlines() if log.exists() else []
    troubles = [line for line in lines if "\tinfo\t" not in line][-LOG_TAIL_LINES:]
    if troubles:
        screen.say("\n".join([f"\n--- warnings and errors in {log} ---", *troubles]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Two services under otelagent-run; their traces from Jaeger and Zipkin."
    )
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    parser.add_argument("--no-color", action="store_true", help="print without colours")
    return parser.parse_args()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
