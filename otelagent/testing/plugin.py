"""The pytest plugin: fixtures, and what holds while tests run.

Every run of pytest imports it where otelagent is installed, so that it loads nothing until a test asks.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from otelagent.testing import Capture, OtlpReceiver, Telemetry

# `otelagent.config.settings.TEST_RUN_VARIABLE`, whose import takes longer than all of this.
TEST_RUN_VARIABLE = "OTELAGENT_INTERNAL_TEST_RUN"

_shown = pytest.StashKey[list[tuple[str, "Telemetry"]]]()
_before = pytest.StashKey[str | None]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option to export."""
    parser.getgroup("otelagent").addoption(
        "--otelagent-export",
        action="store_true",
        help="export telemetry of the tests as the settings say; otherwise nothing is sent unless an exporter is set",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Says what exporters default to, before a conftest.py can import the application."""
    _announce(early_config, early_config.known_args_namespace.otelagent_export)


def pytest_configure(config: pytest.Config) -> None:
    """The same where the plugin is named by a conftest.py."""
    if _before not in config.stash:
        _announce(config, config.getoption("otelagent_export", False))


def _announce(config: pytest.Config, export: bool) -> None:
    config.stash[_before] = os.environ.get(TEST_RUN_VARIABLE)
    os.environ[TEST_RUN_VARIABLE] = "pytest export" if export else "pytest"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leaves the environment as it was."""
    before = config.stash[_before]
    if before is None:
        os.environ.pop(TEST_RUN_VARIABLE, None)
    else:
        os.environ[TEST_RUN_VARIABLE] = before


@pytest.fixture
def otelagent_spans(request: pytest.FixtureRequest) -> Iterator[Capture]:
    """What this process records during the test: spans, log records, metrics."""
    from otelagent.testing.capturing import capture

    with capture(deterministic=_deterministic(request)) as captured:
        _show(request, "spans", captured)
        yield captured


@pytest.fixture
def otelagent_deterministic() -> None:
    """Counted ids and a stepping clock in what `otelagent_spans` and `otlp_receiver` show to this test."""


@pytest.fixture
def otlp_receiver(request: pytest.FixtureRequest) -> Iterator[OtlpReceiver]:
    """An OTLP/HTTP receiver for what other processes send during the test."""
    from otelagent.testing.receiver import OtlpReceiver

    with OtlpReceiver(deterministic=_deterministic(request)) as receiver:
        _show(request, "received spans", receiver)
        yield receiver


def _deterministic(request: pytest.FixtureRequest) -> bool:
    return "otelagent_deterministic" in request.fixturenames


def _show(request: pytest.FixtureRequest, section: str, telemetry: Telemetry) -> None:
    request.node.stash.setdefault(_shown, []).append((section, telemetry))


def _described(telemetry: Telemetry) -> str:
    try:
        return telemetry.describe()
    except Exception as error:  # An exception in a hook would end the whole run.
        return f"they can't be shown: {type(error).__name__}: {error}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Adds the tree to the report of a test that failed."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    if report.failed:
        for section, telemetry in item.stash.get(_shown, ()):
            report.sections.append((section, _described(telemetry)))
    if report.when == "teardown" and _shown in item.stash:
        del item.stash[_shown]  # Items live as long as the run does.
