"""Settings that leave out everything, and the same after the advice was followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doctor.harness import doctor

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


def test_a_setting_that_is_ignored() -> None:
    report = doctor(FILE, OTEL_BSP_SCHEDULE_DELAY="soon")
    assert report.status("settings") == "warn"
    assert "OTEL_BSP_SCHEDULE_DELAY" in report.said("settings")
    assert doctor(FILE, OTEL_BSP_SCHEDULE_DELAY="100").status("settings") == "pass"


def test_secrets_are_not_shown() -> None:
    report = doctor(FILE, "--headers=x-key=sesame", "--endpoint=http://user:sesame@127.0.0.1:1")
    assert "sesame" not in str(report.json) + report.err


@pytest.mark.parametrize(
    ("broken", "followed"),
    [({"OTEL_SDK_DISABLED": "true"}, {}), ({"OTELAGENT_EXPORTER": "none"}, {"OTELAGENT_EXPORTER": "file"})],
    ids=["switched off", "no exporter"],
)
def test_switched_off(broken: dict[str, str], followed: dict[str, str]) -> None:
    report = doctor(given=broken)
    assert report.status("enabled") == "fail"
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


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "otelagent_native.py").write_text("raise ImportError('of another Python')")
    given = {"PYTHONPATH": str(tmp_path)}
    report = doctor(FILE, given=given, OTELAGENT_ENGINE="native")
    assert report.status("engine") == "fail"
    assert "of another Python" in report.said("engine")
    report = doctor(FILE, given=given, OTELAGENT_ENGINE="auto")
    assert report.status("engine") == report.status("span") == "pass"
