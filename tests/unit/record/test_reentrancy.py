"""A signal handler or a `__del__` comes anywhere, also into the middle of a call of ours on its own thread."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import native_or_skip, run_program


@pytest.mark.parametrize("engine", ["native", "sdk"])
def test_spans_of_a_signal_handler_in_the_middle_of_getting_a_tracer(tmp_path: Path, engine: str) -> None:
    if engine == "native":
        native_or_skip()
    # A profile function is called at every call, where a signal handler would be.
    source = """
        import sys, otelagent
        from opentelemetry import _logs, trace
        otelagent.init(logs_exporter="file", logs_file="logs.jsonl")
        tracers, loggers = trace.get_tracer_provider(), _logs.get_logger_provider()
        def interrupt(frame, event, arg):
            with otelagent.span("in a handler"):
                pass
        otelagent.flush()
        sys.setprofile(interrupt)
        for number in range(3):
            tracers.get_tracer(f"scope {number}")
        sys.setprofile(None)
        assert tracers.get_tracer("scope 1") is tracers.get_tracer("scope 1")
        def log(frame, event, arg):
            loggers.get_logger("scope 3")
        sys.setprofile(log)
        loggers.get_logger("scope 3")
        sys.setprofile(None)
        otelagent.shutdown()
        assert otelagent.status()["ledger"]["traces"]["balanced"]
    """
    outcome = run_program(tmp_path, source, OTELAGENT_QUIET="true", OTELAGENT_ENGINE=engine)
    assert outcome.code == 0, outcome.err
    assert {span["name"] for span in outcome.spans} == {"in a handler"}


@pytest.mark.parametrize("engine", ["native", "sdk"])
def test_a_signal_handler_that_tells_the_current_span_in_the_middle_of_the_same(tmp_path: Path, engine: str) -> None:
    if engine == "native":
        native_or_skip()
    source = """
        import sys, otelagent
        from opentelemetry import trace
        otelagent.init()
        def interrupt(frame, event, arg):
            current = trace.get_current_span()
            current.set_attribute("handled", True)
            current.add_event("handled")
            current.set_status(trace.StatusCode.OK)
        with otelagent.span("work"):
            span = trace.get_current_span()
            sys.setprofile(interrupt)
            span.set_attribute("number", 1)
            span.add_event("event", {"number": 1})
            span.record_exception(ValueError("wrong"))
            span.update_name("work done")
            span.set_status(trace.StatusCode.OK)
            sys.setprofile(None)
        otelagent.shutdown()
    """
    outcome = run_program(tmp_path, source, OTELAGENT_QUIET="true", OTELAGENT_ENGINE=engine)
    assert outcome.code == 0, outcome.err
    [span] = outcome.spans
    assert {"event", "handled"} <= {event["name"] for event in span["events"]}
