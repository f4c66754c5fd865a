"""The SDK's own tests of its tracer, from its source distribution, with our provider in the place of the SDK's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support import native_or_skip

HERE = Path(__file__).parent / "upstream"

MODULES = [
    "export/test_export.py",
    "export/test_in_memory_span_exporter.py",
    "test_globals.py",
    "test_sampling.py",
    "test_sdk_metrics.py",
    "test_span_processor.py",
    "test_trace.py",
]

_CONFIG = "private API: the tracer configurator, which is experimental"
_PRIVATE = "private API: _active_span_processor, _update_resource, _resource, _span_limits, _atexit_handler"
# What must fail, and why; all else must pass.
WITH_EITHER = {
    "test_trace.py": {
        "TestTracer::test_get_tracer_sdk_sets_default_tracer_config_if_configurator_raises": _CONFIG,
        "TestTracer::test_start_span_returns_invalid_span_if_not_enabled": _CONFIG,
        "TestTracerProvider::test_rule_based_tracer_configurator": _CONFIG,
        "TestTracerProvider::test_rule_based_tracer_configurator_default_when_rules_dont_match": _CONFIG,
        "TestTracerProvider::test_set_tracer_configurator_sets_default_tracer_config_if_configurator_raises": _CONFIG,
        "TestTracer::test_tracer_provider_accepts_concurrent_multi_span_processor": _PRIVATE,
        "TestSpanCreation::test_span_processor_for_source": _PRIVATE,
        "TestSpanCreation::test_update_resource": _PRIVATE,
        "TestTracerProvider::test_tracer_provider_init_default": _PRIVATE,
        "TestSpan::test_invalid_attribute_values": (
            "deliberate: a value without text of its own is recorded as its type's name (docs/values.md)"
        ),
    }
}
_SCOPE = "private API: the tracer's _instrumentation_scope"
_CLASS = "deliberate: a span that isn't recorded is of the class of all, not a NonRecordingSpan (test_differences.py)"
_SELDOM = "deliberate: what is done to an ended span is complained of once a minute (test_differences.py)"
WITH_NATIVE = {
    "test_trace.py": {
        "TestTracer::test_get_tracer_sdk": _SCOPE,
        "TestTracerProvider::test_default_tracer_configurator": _SCOPE,
        "TestTracerSampling::test_sampler_no_sampling": _CLASS,
        "TestTracerSampling::test_sampler_with_env": _CLASS,
        "TestSpan::test_ended_span": _SELDOM,
        "TestSpan::test_status_cannot_set_unset": _SELDOM,
    }
}


@pytest.fixture(scope="session")
def sources() -> Path:
    """The unpacked source distribution of the installed SDK, downloaded once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otelagent" / "sdk-tests"
    pinned = version("opentelemetry-sdk")
    unpacked = cache / f"opentelemetry_sdk-{pinned}"
    if not unpacked.exists():
        downloads = cache / f"download-{os.getpid()}"
        options: list[str | Path] = [
            "--disable-pip-version-check",
            "-q",
            "--no-binary",
            ":all:",
            "--no-deps",
            "-d",
            downloads,
        ]
        subprocess.run(
            [sys.executable, "-m", "pip", "download", *options, f"opentelemetry-sdk=={pinned}"], check=True, timeout=300
        )
        (archive,) = downloads.glob("*.tar.gz")
        with tarfile.open(archive) as file:
            file.extractall(downloads, filter="data")
        (downloads / unpacked.name).rename(unpacked)
        shutil.rmtree(downloads)
    return unpacked / "tests"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("engine", ["native", "sdk"])
@pytest.mark.parametrize("module", MODULES)
def test_the_sdks_own_tests(sources: Path, module: str, engine: str) -> None:
    if engine == "native":
        native_or_skip()
    failing = WITH_EITHER.get(module, {}) | (WITH_NATIVE.get(module, {}) if engine == "native" else {})
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "PYTEST", "PYTHON"))}
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-rxX", "-p", "no:cacheprovider", "-p", "sdk_tests_plugin",
            "-c", os.devnull, "--rootdir", sources.parent, "--import-mode=importlib", sources / "trace" / module,
        ],
        cwd=sources.parent,
        env={
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}",
            "PYTHONPATH": os.pathsep.join(map(str, (HERE, HERE.parents[2]))),
            "OTELAGENT_ENGINE": engine,
            "FAILING": json.dumps({f"{module}::{name}": reason for name, reason in failing.items()}),
        },
        capture_output=True,
        text=True,
        timeout=380,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-2000:]}"
