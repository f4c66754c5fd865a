"""Settings that are wrong: `init()` raises, the launcher goes on without, and what is merely odd is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import run_program
from tests.unit.agent.programs import LAUNCHER, program


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
