"""Settings that leave out everything, and the same after the advice was followed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from otelagent.doctor.faults import faults
from otelagent.doctor.wording import setting_text
from tests.doctor.harness import clean_environ, doctor

FILE = "--exporter=file"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file is written."""
    monkeypatch.chdir(tmp_path)


def test_a_wrong_setting_and_where_it_came_from() -> None:
    report = doctor(FILE, OTELAGENT_TIMEOUT_MS="soon")
    assert report.status("settings") == "fail"
    assert "OTELAGENT_TIMEOUT_MS" in report.said("settings")
    assert report.code == 1
    report = doctor(FILE, OTELAGENT_TIMEOUT_MS="1000")
    assert report.status("settings") == "pass"
    assert {"name": "timeout_ms", "value": "1000", "source": "OTELAGENT_TIMEOUT_MS"} in report.json["settings"]
    assert report.code == 0


def test_a_wrong_setting_for_people_is_said_once_and_last() -> None:
    words = [sys.executable, "-m", "otelagent.cli.main", "doctor"]
    environ = clean_environ(OTELAGENT_ENDPOINT="localhost:4318")
    done = subprocess.run(words, capture_output=True, text=True, env=environ, timeout=60)
    assert done.stdout.count("http://localhost:4318") == 1
    skips, failure, counts = done.stdout.strip().split("\n\n")
    assert len(skips.splitlines()) == 1
    assert "checks " in skips
    assert failure.split()[:2] == ["FAIL", "Settings"]
    assert counts.startswith("1 failed, ")


def test_a_setting_that_is_ignored() -> None:
    report = doctor(FILE, OTEL_BSP_SCHEDULE_DELAY="soon")
    assert report.status("settings") == "warn"
    assert "OTEL_BSP_SCHEDULE_DELAY" in report.said("settings")
    assert doctor(FILE, OTEL_BSP_SCHEDULE_DELAY="100").status("settings") == "pass"


def test_a_typo_is_told_and_nothing_of_the_settings_passes_beside_it() -> None:
    report = doctor(FILE, OTEL_TRACES_SAMPLER="always_of")
    assert [one["status"] for one in report.of("settings")] == ["warn"]
    assert "OTEL_TRACES_SAMPLER='always_of' ignored" in report.said("settings")
    assert "always_off" in report.said("settings")
    # What is given all the same is there.
    assert "exporter=file (--exporter)" in report.said("settings")
    assert [one["status"] for one in doctor(FILE, OTEL_TRACES_SAMPLER="always_on").of("settings")] == ["pass"]


def test_all_that_is_wrong_is_told_at_once() -> None:
    wrong = {
        "OTEL_TRACES_SAMPLER": "always_of",
        "OTELAGENT_TIMEOUT_MS": "soon",
        "OTELAGENT_ENDPONT": "http://127.0.0.1:1",
        "OTEL_BSP_SCHEDULE_DELAY": "never",
    }
    report = doctor("--retry-max-backoff-ms=long", given=wrong)
    assert [one["status"] for one in report.of("settings")] == ["fail"] * 3 + ["warn"] * 2
    for name in (*wrong, "--retry-max-backoff-ms", "OTELAGENT_ENDPOINT?"):
        assert name in report.said("settings")
    right = {"OTEL_TRACES_SAMPLER": "always_on", "OTELAGENT_TIMEOUT_MS": "1000", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    report = doctor(FILE, "--retry-max-backoff-ms=1000", given=right)
    assert [one["status"] for one in report.of("settings")] == ["pass"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        # The argument's sampler is there, and mistyped: that there is none is no mistake of its own.
        ({"OTELAGENT_SAMPLER": "traceidratoi", "OTELAGENT_SAMPLER_ARG": "0.5"}, ["OTELAGENT_SAMPLER"]),
        ({"OTELAGENT_SAMPLER": "traceidratoi", "OTEL_TRACES_SAMPLER_ARG": "0.5"}, ["OTELAGENT_SAMPLER"]),
        (
            {"OTELAGENT_SAMPLER": "traceidratoi", "OTELAGENT_SAMPLER_ARG": "half"},
            ["OTELAGENT_SAMPLER", "OTELAGENT_SAMPLER_ARG"],
        ),
        (
            {"OTELAGENT_CLIENT_CERTIFICATE": "/none.pem", "OTELAGENT_CLIENT_KEY": __file__},
            ["OTELAGENT_CLIENT_CERTIFICATE"],
        ),
        ({"OTELAGENT_CLIENT_KEY": __file__}, ["OTELAGENT_CLIENT_KEY"]),
        (
            {"OTELAGENT_DESTINATIONS": '{"copy": {"endpont": "x"}}', "OTELAGENT_ENDPOINT": "localhost:4318"},
            ["OTELAGENT_DESTINATIONS", "OTELAGENT_ENDPOINT"],
        ),
    ],
)
def test_what_follows_from_another_mistake_is_not_told(given: dict[str, str], told: list[str]) -> None:
    errors, warnings = faults(given)
    assert sorted(error.source for error in errors) == told
    assert not warnings


def test_secrets_are_not_shown() -> None:
    report = doctor(FILE, "--headers=x-key=sesame", "--endpoint=http://user:sesame@127.0.0.1:1")
    assert "sesame" not in str(report.json) + report.err


@pytest.mark.parametrize(
    ("broken", "followed"),
    [({"OTEL_SDK_DISABLED": "true"}, {}), ({"OTELAGENT_EXPORTER": "none"}, {"OTELAGENT_EXPORTER": "file"})],
    ids=["switched off", "no exporter"],
)
def test_switched_off(broken: dict[str, str], followed: dict[str, str]) -> None:
    report = doctor(given=broken, command=(sys.executable, "-c", "import otelagent\nwith otelagent.span('work'): pass"))
    assert report.status("enabled") == "fail"
    for name in ("started", "delivery"):
        for one in report.of(name):
            assert one["status"] != "fail" or one["advice"] == "see what fails: Telemetry is switched on"
    if "OTEL_SDK_DISABLED" in broken:
        assert [report.status(name) for name in ("sampler", "engine", "service_name")] == ["skip"] * 3
        assert report.status("started") == "fail"
        assert report.status("workers") == report.status("spans") == ""
    assert next(iter(broken)) in report.said("enabled")
    assert doctor(FILE, given=followed).status("enabled") == "pass"


@pytest.mark.parametrize("broken", ["", "unknown_service:python"])
def test_no_name(broken: str) -> None:
    report = doctor(FILE, OTEL_SERVICE_NAME=broken)
    assert report.status("service_name") == "warn"
    assert "OTEL_SERVICE_NAME" in report.said("service_name")
    assert doctor(FILE, OTEL_SERVICE_NAME="shop").status("service_name") == "pass"


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--sampler=always_off"], "fail"),
        (["--sampler=parentbased_always_off"], "fail"),
        (["--sampler=traceidratio", "--sampler-arg=0"], "fail"),
        (["--sampler=traceidratio", "--sampler-arg=0.001"], "warn"),
        (["--sampler=parentbased_always_on"], "pass"),
        (["--sampler=traceidratio", "--sampler-arg=0.5"], "pass"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_sampler_that_leaves_out_all(options: list[str], status: str) -> None:
    report = doctor(FILE, *options)
    assert report.status("sampler") == status
    assert report.status("span") == "pass"  # the doctor's own is always sampled


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "set OTEL_TRACES_SAMPLER=parentbased_always_on"),
        ({"OTELAGENT_SAMPLER": "parentbased_always_off"}, "set OTELAGENT_SAMPLER=parentbased_always_on"),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTELAGENT_SAMPLER_ARG": "0"},
            "set OTELAGENT_SAMPLER_ARG above 0, to 1 for all traces",
        ),
    ],
    ids=["always_off", "of children", "ratio"],
)
def test_advice_on_the_sampler_names_what_is_in_force(given: dict[str, str], advice: str) -> None:
    assert [one["advice"] for one in doctor(FILE, given=given).of("sampler")] == [advice]


@pytest.mark.parametrize(
    ("source", "value", "destination", "text"),
    [
        ("default", "a", "", "OTEL_EXPORTER_OTLP_ENDPOINT=a or --endpoint=a"),
        ("--endpoint", "a", "", "--endpoint=a"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "a", "", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=a"),
        ("OTELAGENT_ENDPOINT", "", "", "OTELAGENT_ENDPOINT"),
        ("init()", "a", "", "init(logs_endpoint='a')"),
        ("default", "a", "copy", "endpoint=a for 'copy' in OTELAGENT_DESTINATIONS or --destinations"),
    ],
)
def test_where_a_setting_is_to_be_set(source: str, value: str, destination: str, text: str) -> None:
    assert setting_text({"logs_endpoint": source}, "logs_endpoint", value, destination=destination) == text


def test_a_variable_that_says_the_opposite() -> None:
    assert setting_text({"enabled": "OTEL_SDK_DISABLED"}, "enabled", "true") == "OTEL_SDK_DISABLED=false"
    assert setting_text({}, "enabled", "true") == "OTELAGENT_ENABLED=true or --enabled=true"


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "otelagent_native.py").write_text("raise ImportError('of another Python')")
    given = {"PYTHONPATH": str(tmp_path)}
    report = doctor(FILE, given=given, OTELAGENT_ENGINE="native")
    assert report.status("engine") == "fail"
    assert "of another Python" in report.said("engine")
    report = doctor(FILE, given=given, OTELAGENT_ENGINE="auto")
    assert report.status("engine") == report.status("span") == "pass"
