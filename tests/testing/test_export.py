"""What runs under pytest sends nothing unless it was told to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from otelagent.config import load
from otelagent.config.settings import TEST_RUN_VARIABLE, VIEWER_VARIABLE
from otelagent.testing import OtlpReceiver, plugin
from tests.testing.running import Run

pytest_plugins = ["pytester"]

APPLICATION = """
import logging
import os
import subprocess
import sys

import otelagent

KEYWORDS = {}

PROGRAM = "import otelagent; otelagent.init(); otelagent.span('child').__enter__().__exit__(None, None, None)"


def test_it(caplog):
    otelagent.init(**KEYWORDS)
    with otelagent.span("parent"):
        pass
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
    otelagent.shutdown()
    sources = {one["name"]: one["source"] for one in otelagent.status()["settings"]}
    print("SOURCE", sources["exporter"], [record.getMessage() for record in caplog.records])
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """With whichever engine there is: nothing here depends on it."""
    return Run(pytester, monkeypatch, "auto")


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    """Where the environment says that the collector is."""
    with OtlpReceiver() as receiver:
        yield receiver


def elsewhere(receiver: OtlpReceiver, folder: Path) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "XDG_STATE_HOME": str(folder / "state")}


def test_an_endpoint_alone_gets_nothing(run: Run, receiver: OtlpReceiver, tmp_path: Path) -> None:
    result = run.passes(APPLICATION, "-s", **elsewhere(receiver, tmp_path))
    # No line of where spans go, no complaint, nothing on disk.
    result.stdout.fnmatch_lines(["*SOURCE pytest []*"])
    assert receiver.spans == ()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("arguments", "environ", "keywords"),
    [
        (("--otelagent-export",), {}, "{}"),
        ((), {"OTELAGENT_EXPORTER": "otlp"}, "{}"),
        ((), {"OTEL_TRACES_EXPORTER": "otlp"}, "{}"),
        (("-p", "no:otelagent"), {}, "{}"),
    ],
    ids=["option", "own variable", "standard variable", "without the plugin"],
)
def test_whoever_asks_gets_it(
    run: Run,
    receiver: OtlpReceiver,
    tmp_path: Path,
    arguments: tuple[str, ...],
    environ: dict[str, str],
    keywords: str,
) -> None:
    run.passes(APPLICATION, *arguments, **environ, **elsewhere(receiver, tmp_path))
    assert {span.name for span in receiver.wait_for(2)} == {"parent", "child"}


def test_the_option_reaches_the_workers_of_xdist(run: Run, receiver: OtlpReceiver, tmp_path: Path) -> None:
    plugins = ("otelagent", "xdist")
    run.passes(APPLICATION, "-n", "1", **elsewhere(receiver, tmp_path), plugins=plugins)
    assert receiver.spans == ()
    run.passes(APPLICATION, "-n", "1", "--otelagent-export", **elsewhere(receiver, tmp_path), plugins=plugins)
    assert {span.name for span in receiver.wait_for(2)} == {"parent", "child"}


def test_a_conftest_may_name_the_plugin(run: Run, receiver: OtlpReceiver, tmp_path: Path) -> None:
    run.pytester.makeconftest("pytest_plugins = ['otelagent.testing.plugin']")
    source = APPLICATION + "\n\ndef test_the_fixture(otelagent_spans):\n    assert not otelagent_spans\n"
    run.passes(source, plugins=(), **elsewhere(receiver, tmp_path)).assert_outcomes(passed=2)
    assert receiver.spans == ()


def test_a_keyword_is_for_its_process_alone(run: Run, receiver: OtlpReceiver, tmp_path: Path) -> None:
    source = APPLICATION.replace("KEYWORDS = {}", "KEYWORDS = {'exporter': 'otlp'}")
    run.passes(source, **elsewhere(receiver, tmp_path))
    assert [span.name for span in receiver.wait_for(1)] == ["parent"]


def test_with_the_fixture_what_is_asked_for_is_sent_too(run: Run, receiver: OtlpReceiver, tmp_path: Path) -> None:
    source = """
import otelagent


def test_it(otelagent_spans):
    with otelagent.span("work"):
        pass
    assert otelagent_spans.one("work")
"""
    run.passes(source, "--otelagent-export", **elsewhere(receiver, tmp_path))
    assert receiver.wait_for(lambda receiver: receiver.one("work"))
    receiver.clear()
    run.passes(source, **elsewhere(receiver, tmp_path))
    assert receiver.spans == ()


def test_the_application_may_start_in_a_conftest(run: Run, receiver: OtlpReceiver, tmp_path: Path) -> None:
    run.pytester.makeconftest("import otelagent\notelagent.init()\n")
    result = run.passes(APPLICATION, "-s", **elsewhere(receiver, tmp_path))
    result.stdout.fnmatch_lines(["*SOURCE pytest []*"])
    assert receiver.spans == ()


def test_an_outer_run_is_as_before_after_an_inner_one(run: Run) -> None:
    run.passes(
        """
import os

import pytest

pytest_plugins = ["pytester"]


def test_outer(pytester):
    before = os.environ["OTELAGENT_INTERNAL_TEST_RUN"]
    pytester.makepyfile("import os; assert os.environ['OTELAGENT_INTERNAL_TEST_RUN'] == 'pytest export'")
    result = pytester.runpytest_inprocess("-p", "otelagent", "--otelagent-export")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert os.environ["OTELAGENT_INTERNAL_TEST_RUN"] == before == "pytest"
"""
    )


def test_the_defaults_of_a_test_run() -> None:
    assert plugin.TEST_RUN_VARIABLE == TEST_RUN_VARIABLE
    config = load({}, {TEST_RUN_VARIABLE: "pytest"})
    assert (config.traces.exporter, config.logs.exporter, config.quiet, config.test_run) == (
        "none",
        "none",
        True,
        "pytest",
    )
    assert {str(config.sources[name]) for name in ("exporter", "logs_exporter", "quiet")} == {"pytest"}
    told = load({"exporter": "console"}, {TEST_RUN_VARIABLE: "pytest", "OTEL_LOGS_EXPORTER": "otlp"})
    assert (told.traces.exporter, told.logs.exporter) == ("console", "otlp")
    export = load({}, {TEST_RUN_VARIABLE: "pytest export"})
    assert (export.traces.exporter, export.quiet, export.test_run) == ("otlp", False, "pytest")
    # What `otelagent-run --ui` shows has been asked for.
    shown = load({}, {TEST_RUN_VARIABLE: "pytest", VIEWER_VARIABLE: "http://127.0.0.1:4318"})
    assert (shown.traces.exporter, shown.logs.exporter) == ("otlp", "otlp")
    assert load({}, {}).test_run == ""
