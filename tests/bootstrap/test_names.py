"""What the processes of one application are called: its workers as itself, other programs as themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import free_port, native_or_skip, wait_until
from tests.viewer.programs import environment

pytestmark = pytest.mark.parametrize("engine", ["native", "sdk"])

RUN = [sys.executable, "-m", "otelagent.cli.run", "--exporter=file", "--file=spans", "--batch-schedule-delay-ms=10"]

SHOP = """
import multiprocessing, os, subprocess, sys
from concurrent.futures import ProcessPoolExecutor
import otelagent

def work(what):
    with otelagent.span(what):
        pass

if __name__ == "__main__":
    work("shop")
    for method in ("fork", "spawn", "forkserver"):
        child = multiprocessing.get_context(method).Process(target=work, args=[method])
        child.start()
        child.join()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(work, "executor").result()
    subprocess.run([sys.executable, "other.py"], check=True)
    subprocess.run([sys.executable, "-c", "import otelagent\\nwith otelagent.span('code'): pass"], check=True)
"""

OTHER = """
import multiprocessing
import otelagent

def work(what):
    with otelagent.span(what):
        pass

if __name__ == "__main__":
    work("other")
    child = multiprocessing.get_context("spawn").Process(target=work, args=["other's"])
    child.start()
    child.join()
"""

SHOP_SERVER = """
import os
import otelagent

with otelagent.span(f"import {os.getpid()}"):
    pass

async def app(scope, receive, send):
    pass
"""


def services(directory: Path) -> dict[str, str]:
    """The service by the name of each span."""
    path = directory / "spans"
    return {
        span["name"]: next(
            attribute["value"]["stringValue"]
            for attribute in resource["resource"]["attributes"]
            if attribute["key"] == "service.name"
        )
        for line in (path.read_text().splitlines(keepends=True) if path.exists() else [])
        if line.endswith("\n")
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    }


@pytest.fixture
def environ(engine: str) -> dict[str, str]:
    if engine == "native":
        native_or_skip()
    return environment(OTELAGENT_ENGINE=engine, OTELAGENT_QUIET="true")


def run_shop(directory: Path, environ: dict[str, str], *options: str) -> dict[str, str]:
    (directory / "shop.py").write_text(SHOP)
    (directory / "other.py").write_text(OTHER)
    command = [*RUN, *options, sys.executable, "shop.py"]
    done = subprocess.run(command, cwd=directory, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return services(directory)


def test_workers_are_called_as_their_program(tmp_path: Path, environ: dict[str, str]) -> None:
    assert run_shop(tmp_path, environ) == {
        **dict.fromkeys(("shop", "fork", "spawn", "forkserver", "executor"), "shop"),
        **dict.fromkeys(("other", "other's"), "other"),
        "code": "unknown_service:python",
    }


def test_a_name_that_is_set_is_everyones(tmp_path: Path, environ: dict[str, str]) -> None:
    assert set(run_shop(tmp_path, environ, "--service-name=mine").values()) == {"mine"}


@pytest.mark.parametrize(("option", "processes"), [(["--workers", "2"], 2), (["--reload"], 1)])
def test_workers_of_uvicorn(tmp_path: Path, environ: dict[str, str], option: list[str], processes: int) -> None:
    (tmp_path / "shop.py").write_text(SHOP_SERVER)
    command = [*RUN, "uvicorn", "shop:app", "--lifespan", "off", "--port", str(free_port()), *option]
    path = os.path.dirname(sys.executable) + os.pathsep + environ["PATH"]
    server = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**environ, "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: len(services(tmp_path)) >= processes, 60)
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(30)
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
    assert set(services(tmp_path).values()) == {"shop"}


BOTH = """
import json
import otelagent
from opentelemetry.sdk.metrics import MeterProvider

(row,) = (row for row in otelagent.status()["settings"] if row["name"] == "service_name")
resource = MeterProvider()._sdk_config.resource
print(json.dumps([otelagent.status()["service"], row["source"], resource.attributes["service.name"]]))
"""


def test_what_the_application_measures_itself_has_the_name_of_its_spans(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    (tmp_path / "both.py").write_text(BOTH)
    given = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=attribute", "OTEL_SERVICE_NAME": "standard"}
    for options, variables, service, source in (
        (["--service-name=option"], {}, "option", "--service-name"),
        (["--service-name=option"], given, "option", "--service-name"),
        (["--service-name=option"], {"OTELAGENT_SERVICE_NAME": "own"}, "option", "--service-name"),
        ([], given, "standard", "OTEL_SERVICE_NAME"),
    ):
        command = [*RUN, *options, sys.executable, "both.py"]
        done = subprocess.run(
            command, cwd=tmp_path, env={**environ, **variables}, capture_output=True, text=True, timeout=60, check=True
        )
        assert json.loads(done.stdout) == [service, source, service]
