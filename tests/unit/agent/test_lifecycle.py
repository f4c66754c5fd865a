"""init, the lifecycle, flush, status: each in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import run_program
from tests.unit.agent.programs import program


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


def test_status_has_the_same_keys_in_every_state(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        program("""
    found = [otelagent.status()]
    otelagent.init()
    found.append(otelagent.status())
    otelagent.pause()
    found.append(otelagent.status())
    otelagent.shutdown()
    found.append(otelagent.status())
    print(json.dumps(found))
    """),
    )
    assert outcome.code == 0, outcome.err
    off = run_program(
        tmp_path, program("otelagent.init()\nprint(json.dumps([otelagent.status()]))"), OTEL_SDK_DISABLED="true"
    )
    wrong = run_program(
        tmp_path,
        program("""
    try:
        otelagent.init(sampler="sometimes")
    except otelagent.ConfigError:
        print(json.dumps([otelagent.status()]))
    """),
    )
    found = [*outcome.json, *off.json, *wrong.json]
    assert [one["state"] for one in found] == ["INIT", "RUNNING", "PAUSED", "STOPPED", "DISABLED", "INIT"]
    shape = [(key, type(value)) for key, value in found[1].items() if key != "engine"]
    for one in found:
        assert [(key, type(value)) for key, value in one.items() if key != "engine"] == shape
        assert list(one["ledger"]["traces"]) == list(found[1]["ledger"]["traces"])
        assert one["ledger"]["traces"]["balanced"]
        assert list(one["destinations"]) == list(one["delivery"]) == list(one["untaken"]) == ["traces"]
    assert [one["engine"] is None for one in found] == [True, False, False, False, True, True]
    assert found[0]["destinations"] == {"traces": "nowhere, init() has not been called"}


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
