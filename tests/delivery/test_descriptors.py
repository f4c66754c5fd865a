"""A process that has used up its descriptors before its first export: what sends can't even be imported then."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.delivery.harness import FaultServer
from tests.support import native_or_skip

PROGRAM = """
import json, logging, os, resource, sys, time
import otelagent
from opentelemetry import trace

otelagent.init(
    quiet=True, spool=False, batch_schedule_delay_ms=20, logs_batch_schedule_delay_ms=20, retry_initial_backoff_ms=10,
    retry_max_backoff_ms=20, logs_exporter="otlp", **json.loads(sys.argv[1])
)
tracer = trace.get_tracer("t")
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
with tracer.start_as_current_span("work"):
    logging.getLogger("app").warning("hello")
flushed = [otelagent.flush(0.5)]
during = otelagent.status()["ledger"]
for descriptor in taken:
    os.close(descriptor)
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
flushed.append(otelagent.flush(20))
otelagent.shutdown()
print(json.dumps([flushed, during, otelagent.status()["ledger"]]))
"""


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("engine", ["native", "sdk"])
def test_everything_waits_and_nothing_is_raised(engine: str, protocol: str) -> None:
    if engine == "native":
        native_or_skip()
    with FaultServer(protocol[:4], {"status": 200}) as server:
        endpoint = f"http://127.0.0.1:{server.port}"
        settings: dict[str, Any] = {"engine": engine, "endpoint": endpoint, "protocol": protocol}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(settings)],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    flushed, during, after = json.loads(done.stdout)
    assert flushed == [False, True], done.stderr
    for signal in ("traces", "logs"):
        assert (during[signal]["ended"], during[signal]["queued"], during[signal]["balanced"]) == (1, 1, True)
        assert (after[signal]["ended"], after[signal]["delivered"], after[signal]["balanced"]) == (1, 1, True)
