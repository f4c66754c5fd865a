"""init, the lifecycle, flush, status: each in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import run_program

LAUNCHER = str(Path(sys.executable).with_name("otelagent-run"))

HEAD = """
import json, otelagent
from opentelemetry import trace
"""


def program(body: str) -> str:
    return HEAD + "\n".join(line[4:] if line.startswith("    ") else line for line in body.splitlines())


def test_states_follow_the_lifecycle(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    states = [otelagent.status()["state"]]
    otelagent.init()
    states.append(otelagent.status()["state"])
    otelagent.pause(); otelagent.pause()
    states.append(otelagent.status()["state"])
    with otelagent.span("while paused"): pass
    otelagent.resume()
    states.append(otelagent.status()["state"])
    with otelagent.span("after"): pass
    assert otelagent.shutdown()
    states.append(otelagent.status()["state"])
    otelagent.resume(); otelagent.init()
    states.append(otelagent.status()["state"])
    with otelagent.span("too late"): pass
    print(json.dumps([states, otelagent.status()["ledger"]["traces"]]))
    """),
    )
    assert outcome.code == 0, outcome.err
    states, ledger = outcome.json
    assert states == ["INIT", "RUNNING", "PAUSED", "RUNNING", "STOPPED", "STOPPED"]
    assert [span["name"] for span in outcome.spans] == ["after"]
    assert ledger["balanced"]
    assert (ledger["ended"], ledger["delivered"], ledger["sampled_out"]) == (3, 1, 1)
    assert ledger["dropped"] == {"shutdown": 1}
    assert "does not start again" in outcome.err


def test_a_second_init_changes_nothing_and_says_so(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    otelagent.init(service_name="first")
    provider = trace.get_tracer_provider()
    otelagent.init(service_name="second", sampler="always_off")
    otelagent.init()
    assert trace.get_tracer_provider() is provider
    print(json.dumps(otelagent.status()["service"]))
    """),
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json == "first"
    assert outcome.err.count("change nothing: sampler, service_name") == 1


def test_without_init_everything_is_harmless(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    @otelagent.instrument
    def work(): return 7
    with otelagent.span("nothing"):
        assert work() == 7
    assert otelagent.flush() and otelagent.shutdown()
    otelagent.pause(); otelagent.resume()
    print(json.dumps(otelagent.status()["state"]))
    """),
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json == "INIT"
    assert outcome.spans == []


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


def test_tracers_made_before_init_record_after_it(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    tracer = trace.get_tracer("early")
    @otelagent.instrument
    def work(): pass
    otelagent.init()
    with tracer.start_as_current_span("by the api"): work()
    assert otelagent.flush()
    """),
    )
    assert outcome.code == 0, outcome.err
    names = {span["name"]: span for span in outcome.spans}
    assert set(names) == {"by the api", "work"}
    assert names["work"]["parentSpanId"] == names["by the api"]["spanId"]


def test_an_application_that_set_a_provider_keeps_it_and_its_spans_are_exported(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    from opentelemetry.sdk.trace import TracerProvider
    mine = TracerProvider()
    trace.set_tracer_provider(mine)
    otelagent.init()
    assert trace.get_tracer_provider() is mine
    with trace.get_tracer("mine").start_as_current_span("theirs"): pass
    assert otelagent.flush()
    print(json.dumps(otelagent.status()["warnings"]))
    """),
    )
    assert outcome.code == 0, outcome.err
    assert "set a TracerProvider first" in outcome.json[0]
    assert [span["name"] for span in outcome.spans] == ["theirs"]


def test_flush_tells_the_truth_about_loss(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    otelagent.init(batch_max_queue_size=4, batch_max_export_batch_size=4, batch_schedule_delay_ms=60000)
    from otelagent.lifecycle import _agent
    spans = [trace.get_tracer("t").start_span(str(number)) for number in range(4)]
    _agent.engine._batch.added = lambda pending: None   # the batch thread never comes: the queue stays full
    for span in spans: span.end()
    with otelagent.span("one too many"): pass
    answers = [otelagent.flush(), otelagent.flush()]
    print(json.dumps([answers, otelagent.status()["ledger"]["traces"]]))
    """),
    )
    assert outcome.code == 0, outcome.err
    answers, ledger = outcome.json
    assert answers == [False, True]
    assert (ledger["ended"], ledger["delivered"], ledger["dropped"]) == (5, 4, {"queue_full": 1})
    assert ledger["balanced"]


def test_exporter_none_counts_what_goes_nowhere(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    otelagent.init()
    with otelagent.span("nowhere"): pass
    print(json.dumps([otelagent.flush(), otelagent.status()["ledger"]["traces"]]))
    """),
        OTELAGENT_EXPORTER="none",
    )
    flushed, ledger = outcome.json
    assert flushed is False
    assert ledger["dropped"] == {"exporter_none": 1}
    assert ledger["balanced"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("otelagent.init(samler='always_on')", "sampler"),
        ("otelagent.init(endpoint='ftp://x')", "endpoint"),
        ("otelagent.init(sampler='traceidratio', sampler_arg=1.5)", "sampler_arg"),
        ("import sys; sys.modules['otelagent_native'] = None; otelagent.init(engine='native')", "otelagent-native"),
    ],
)
def test_a_wrong_setting_is_a_config_error(tmp_path: Path, call: str, message: str) -> None:
    outcome = run_program(
        tmp_path,
        program(f"""
    try:
        {call}
    except otelagent.ConfigError as error:
        print(json.dumps([str(error), otelagent.status()["state"]]))
    """),
    )
    assert outcome.code == 0, outcome.err
    text, state = outcome.json
    assert message in text
    assert "init()" in text
    assert state == "INIT"


def test_a_fork_child_has_its_own_books_and_identity(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    import os, warnings
    warnings.simplefilter("ignore")   # Python 3.12 warns of forking with threads
    otelagent.init()
    with otelagent.span("parent, before"): pass
    pid = os.fork()
    if pid == 0:
        with otelagent.span("child"): pass
        assert otelagent.status()["ledger"]["traces"]["ended"] == 1
        assert otelagent.flush()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    with otelagent.span("parent, after"): pass
    assert otelagent.flush()
    assert otelagent.status()["ledger"]["traces"]["delivered"] == 2
    """),
    )
    assert outcome.code == 0, outcome.err

    def resource(span: dict[str, object], key: str) -> object:
        attributes = span["resource"]
        assert isinstance(attributes, list)
        return next(attribute["value"] for attribute in attributes if attribute["key"] == key)

    spans = {span["name"]: span for span in outcome.spans}
    assert len(outcome.spans) == len(spans) == 3
    for key in ("service.instance.id", "process.pid"):
        assert resource(spans["parent, before"], key) == resource(spans["parent, after"], key)
        assert resource(spans["child"], key) != resource(spans["parent, after"], key)


@pytest.mark.parametrize(
    "variable",
    [
        "OTEL_PROPAGATORS",
        "OTEL_PYTHON_TRACER_PROVIDER",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "OTEL_TRACES_SAMPLER",
        "OTEL_BSP_MAX_QUEUE_SIZE",
    ],
)
def test_what_the_api_and_the_sdk_would_raise_for_is_ignored(tmp_path: Path, variable: str) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    otelagent.init()
    with otelagent.span("all the same"): pass
    assert otelagent.flush()
    print(json.dumps([otelagent.status()["state"], otelagent.status()["service"]]))
    """),
        **{variable: "no such thing"},
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json == ["RUNNING", "program"]
    assert [span["name"] for span in outcome.spans] == ["all the same"]
    assert outcome.err.count(variable) == (0 if variable == "OTEL_PYTHON_TRACER_PROVIDER" else 1)


def test_patterns_with_flags_of_their_own_exclude_and_stop_cleanly(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    otelagent.init(excluded_urls=["(?i)/HEALTH$", "(?P<a>x)", "(?P<a>y)"])
    from otelagent.patching.switch import SWITCH
    state, excluded = otelagent.status()["state"], [SWITCH.excluded(path) for path in ("/health", "/")]
    print(json.dumps([state, *excluded, otelagent.shutdown()]))
    """),
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json == ["RUNNING", True, False, True]


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


def test_all_instrumentations_can_be_off_and_unknown_ones_are_named(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    otelagent.init(disabled_instrumentations=["*", "htpx"])
    status = otelagent.status()
    print(json.dumps([{state["state"] for state in status["instrumentations"]} == {"disabled"}, status["warnings"]]))
    """),
        OTELAGENT_PREFER_CONTRIB="flsk",
    )
    assert outcome.code == 0, outcome.err
    everything, warnings = outcome.json
    assert everything
    assert warnings == [
        "disabled_instrumentations (from init()): there is no instrumentation 'htpx'; did you mean 'httpx'?",
        "prefer_contrib (from OTELAGENT_PREFER_CONTRIB): there is no instrumentation 'flsk'; did you mean 'flask'?",
    ]


@pytest.mark.parametrize(
    ("engine", "exporter", "where"),
    [
        ("auto", "none", "nowhere, exporter is none (engine sdk: otelagent-native is not installed)"),
        ("sdk", "console", "standard output (engine sdk)"),
    ],
)
def test_the_start_line_says_why_it_is_the_slower_engine(
    tmp_path: Path, engine: str, exporter: str, where: str
) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    import sys; sys.modules["otelagent_native"] = None
    from otelagent.lifecycle import startup_line
    otelagent.init(service_name="shop", disabled_instrumentations="*")
    print(json.dumps(startup_line()))
    """),
        OTELAGENT_ENGINE=engine,
        OTELAGENT_EXPORTER=exporter,
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json == f'otelagent 0.1.0: service "shop" → {where}; instruments nothing'


def test_a_child_forked_inside_another_threads_init_can_init(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    import os, threading, warnings
    warnings.simplefilter("ignore")
    from otelagent import lifecycle
    held, done = threading.Event(), threading.Event()
    def hold():
        with lifecycle._agent_lock:
            held.set(); done.wait()
    thread = threading.Thread(target=hold); thread.start(); held.wait()
    pid = os.fork()
    if pid == 0:
        otelagent.init(); os._exit(0 if otelagent.status()["state"] == "RUNNING" else 1)
    done.set(); thread.join()
    assert os.waitpid(pid, 0)[1] == 0
    """),
    )
    assert outcome.code == 0, outcome.err


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


def test_init_in_another_thread_says_that_sigterm_is_not_handled(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    import threading
    thread = threading.Thread(target=otelagent.init); thread.start(); thread.join()
    print(json.dumps([otelagent.status()["handles_sigterm"], otelagent.status()["warnings"]]))
    """),
    )
    handles, warnings = outcome.json
    assert handles is False
    assert any("SIGTERM" in warning for warning in warnings)


def test_third_party_samplers_and_propagators_are_found_by_entry_point(tmp_path: Path) -> None:
    metadata = tmp_path / "third_party-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[opentelemetry_traces_sampler]\nnone_at_all = third_party:sampler\n"
        "[opentelemetry_propagator]\nown = third_party:Propagator\n"
    )
    (tmp_path / "third_party.py").write_text(
        "from opentelemetry.sdk.trace.sampling import ALWAYS_OFF\n"
        "from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator as Propagator\n"
        "def sampler(argument): return ALWAYS_OFF\n"
    )
    outcome = run_program(
        tmp_path,
        program("""
    otelagent.init(sampler="none_at_all", propagators=["own"])
    with otelagent.span("left out"): pass
    print(json.dumps(otelagent.status()["ledger"]["traces"]["sampled_out"]))
    """),
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json == 1


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


@pytest.mark.parametrize(
    ("variable", "wrong"), [("OTELAGENT_SAMPLER", "sometimes"), ("OTELAGENT_FOO", "x"), ("OTELAGENT_ENGINE", "native")]
)
def test_what_the_launcher_went_on_without_is_not_raised_into_the_application(
    tmp_path: Path, variable: str, wrong: str
) -> None:
    # As where it isn't installed, for the bootstrap as well.
    (tmp_path / "otelagent_native.py").write_text("raise ModuleNotFoundError(name='otelagent_native')")
    outcome = run_program(
        tmp_path,
        program("""
    before = otelagent.status()["state"]
    otelagent.init(service_name="x")
    otelagent.init()
    trace.get_tracer_provider().add_span_processor(None)
    with otelagent.span("nothing"): pass
    print(json.dumps([before, otelagent.status()["state"], otelagent.status()["reason"]]))
    import os; os._exit(0)
    """),
        LAUNCHER,
        **{"PYTHONPATH": str(tmp_path), variable: wrong},
    )
    assert outcome.code == 0, outcome.err
    *states, reason = outcome.json
    assert states == ["DISABLED", "DISABLED"]
    assert variable in reason
    told, *logged = outcome.err.splitlines()
    assert told.endswith("without telemetry")
    assert logged == [f"otelagent stays off: {reason}"] * 2


def test_a_wrong_keyword_is_raised_whatever_the_launcher_went_on_without(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    try: otelagent.init(samler="always_on")
    except otelagent.ConfigError as error: print(json.dumps(error.source))
    """),
        LAUNCHER,
        OTELAGENT_SAMPLER="sometimes",
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json == "init()"


def test_a_child_whose_environment_is_right_again_is_traced(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    import os, subprocess, sys
    del os.environ["OTELAGENT_SAMPLER"]
    code = "import otelagent; otelagent.init(); print('%s', otelagent.status()['state'])"
    subprocess.run([sys.executable, "-c", code % "itself"], check=True)
    subprocess.run([sys.argv[0], sys.executable, "-c", code % "launched"], check=True)
    """).replace("sys.argv[0]", repr(LAUNCHER)),
        LAUNCHER,
        OTELAGENT_SAMPLER="sometimes",
    )
    assert outcome.code == 0, outcome.err
    assert outcome.out == "itself RUNNING\nlaunched RUNNING\n"


def test_values_cut_to_their_limit_are_not_news(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    otelagent.init(attribute_value_length_limit=10)
    for _ in range(50):
        with otelagent.span("long", {"text": "x" * 100}): pass
    """),
    )
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("truncating") <= 1
    assert len(outcome.spans) == 50


def test_an_extension_that_imports_an_application_which_calls_init(tmp_path: Path) -> None:
    registered = tmp_path / "shop-1.0.dist-info"
    registered.mkdir()
    (registered / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
    (registered / "entry_points.txt").write_text("[opentelemetry_traces_sampler]\nshop = shop:sampler\n")
    (tmp_path / "shop.py").write_text(
        "import otelagent\n"
        "otelagent.init(service_name='other')\n"
        "def sampler(argument):\n"
        "    from opentelemetry.sdk.trace.sampling import ALWAYS_ON\n"
        "    return ALWAYS_ON\n"
    )
    source = """
        import otelagent
        otelagent.init(service_name="mine", sampler="shop", engine="sdk")
        with otelagent.span("work"):
            pass
        otelagent.shutdown()
        assert otelagent.status()["service"] == "mine"
    """
    outcome = run_program(tmp_path, source, OTELAGENT_QUIET="true")
    assert outcome.code == 0, outcome.err
    assert [span["name"] for span in outcome.spans] == ["work"]
