"""An agent that is switched off, or could not start, leaves the application as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import run_program
from tests.unit.agent.programs import LAUNCHER, program


def test_disabled_by_the_standard_variable(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    otelagent.init()
    with otelagent.span("nothing"): pass
    status = otelagent.status()
    print(json.dumps([status["state"], status["reason"]]))
    """),
        OTEL_SDK_DISABLED="true",
    )
    assert outcome.json == ["DISABLED", "switched off by OTEL_SDK_DISABLED"]
    assert outcome.spans == []


def test_what_is_switched_off_says_so_whoever_starts_it_again(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    import sqlite3
    otelagent.init(service_name="x")
    status = otelagent.status()
    patched = [one["name"] for one in status["instrumentations"] if one["state"] in ("waiting", "applied")]
    print(json.dumps([status["state"], status["reason"], patched]))
    otelagent.shutdown()
    assert otelagent.status()["state"] == "DISABLED"
    """),
        LAUNCHER,
        OTELAGENT_ENABLED="false",
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json == ["DISABLED", "switched off by OTELAGENT_ENABLED", ["logging"]]
    said = outcome.err.splitlines()
    assert said[0].endswith(": switched off by OTELAGENT_ENABLED")
    assert said[1:] == [
        "otelagent is switched off by OTELAGENT_ENABLED; these settings of a second init() change nothing: service_name"
    ]


USES_THE_PROVIDER = """
    class Processor:
        def on_start(self, span, parent_context=None): raise AssertionError
        def on_end(self, span): raise AssertionError
        def force_flush(self, timeout_millis=30000): return True
        def shutdown(self): print(json.dumps("processor shut down"))
    provider = trace.get_tracer_provider()
    provider.add_span_processor(Processor())
    with trace.get_tracer("a").start_as_current_span("nothing") as span: assert not span.is_recording()
    assert provider.force_flush() is True
    import sys
    assert "opentelemetry.sdk.trace" not in sys.modules
"""


def test_what_is_switched_off_takes_what_applications_add_to_the_provider(tmp_path: Path) -> None:
    source = "otelagent.init()\n" + USES_THE_PROVIDER + "\n    provider.shutdown(); provider.shutdown()"
    outcome = run_program(tmp_path, program(source), OTEL_SDK_DISABLED="true")
    assert outcome.code == 0, outcome.err
    assert (outcome.out, outcome.err) == ('"processor shut down"\n', "")
    outcome = run_program(tmp_path, program("otelagent.init()\n" + USES_THE_PROVIDER), OTELAGENT_ENABLED="false")
    assert (outcome.out, outcome.err) == ('"processor shut down"\n', "")


def test_what_is_switched_off_leaves_the_provider_to_the_application(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    otelagent.init()
    early = trace.get_tracer("early")
    from opentelemetry.sdk.trace import TracerProvider
    own = TracerProvider()
    trace.set_tracer_provider(own)
    assert trace.get_tracer_provider() is own
    with early.start_as_current_span("the application's") as span: assert span.is_recording()
    """),
        LAUNCHER,
        OTELAGENT_ENABLED="false",
        OTELAGENT_QUIET="true",
    )
    assert (outcome.code, outcome.err) == (0, "")


def test_an_agent_that_could_not_start_takes_that_too(tmp_path: Path) -> None:
    source = """
    from otelagent.agent import Agent
    def fail(agent): raise RuntimeError("anything")
    Agent.set_propagators = fail
    otelagent.init()
    assert otelagent.status()["state"] == "STOPPED"
    trace.get_tracer_provider().add_span_processor(None)
    """
    outcome = run_program(tmp_path, program(source))
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("off", ["before", "after", "disabled"])
def test_a_log_format_with_our_fields_works_while_the_agent_is_off(tmp_path: Path, off: str) -> None:
    outcome = run_program(
        tmp_path,
        program(f"""
    import logging
    otelagent.init(enabled={off != "disabled"})
    if {off == "after"}: otelagent.shutdown()
    logging.basicConfig(format="%(otelTraceID)s %(otelServiceName)s %(message)s")
    logging.warning("told")
    print(json.dumps(otelagent.status()["state"]))
    """),
    )
    assert outcome.code == 0, outcome.err
    assert [line for line in outcome.err.splitlines() if line.startswith("0 ") and line.endswith(" told")], outcome.err
    assert "Logging error" not in outcome.err
    assert outcome.json == {"before": "RUNNING", "after": "STOPPED", "disabled": "DISABLED"}[off]


def test_a_start_that_fails_leaves_nothing_running(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    from otelagent.agent import Agent
    def fail(self, provider): raise OSError("no")
    Agent._install = fail
    otelagent.init()
    with otelagent.span("nothing"): pass
    from otelagent.patching.switch import SWITCH
    import signal
    print(json.dumps([
        otelagent.status()["state"], otelagent.status()["reason"], SWITCH.recording, otelagent.shutdown(),
        signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
    ]))
    """),
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json == ["STOPPED", "could not start: OSError: no", False, True, True]
    assert outcome.spans == []


@pytest.mark.parametrize("setting", ["OTELAGENT_SAMPLER_ARG", "OTELAGENT_ENGINE"])
def test_a_refused_start_leaves_log_formats_working_and_says_why(tmp_path: Path, setting: str) -> None:
    wrong = {"OTELAGENT_SAMPLER_ARG": "2", "OTELAGENT_ENGINE": "native"}[setting]
    outcome = run_program(
        tmp_path,
        program("""
    import logging, sys
    sys.modules["otelagent_native"] = None  # as where it isn't installed
    try: otelagent.init()
    except otelagent.ConfigError: pass
    else: raise AssertionError
    logging.basicConfig(format="%(otelTraceID)s %(message)s")
    logging.warning("told")
    print(json.dumps([otelagent.status()["state"], otelagent.status()["reason"]]))
    """),
        **{setting: wrong},
    )
    assert outcome.code == 0, outcome.err
    assert outcome.err == "0 told\n"
    state, reason = outcome.json
    assert state == "INIT"
    assert setting in reason
