"""Whatever is in the environment: a configuration or a `ConfigError`, and never an error for the SDK's tuning knobs."""

from __future__ import annotations

import re
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from otelagent.config import SETTINGS, Config, load
from otelagent.config.settings import CONFIG_FILE, OPTIONS_VARIABLE
from otelagent.errors import ConfigError

VARIABLES = sorted({v for s in SETTINGS for v in (s.variable, *s.otel)} | {CONFIG_FILE, OPTIONS_VARIABLE})
TUNING = [v for v in VARIABLES if re.fullmatch(r"OTEL_(BSP_.*|.*_LIMIT)", v)]
# What `os.environ` can hold: no null characters, and bytes that aren't UTF-8 as surrogates.
TEXT = st.text(st.characters(exclude_characters="\0"), max_size=40)
PLAUSIBLE = st.sampled_from(
    [
        "0",
        "1",
        "-1",
        "0.5",
        "nan",
        "inf",
        "true",
        "none",
        "otlp",
        "grpc",
        "a=b",
        "a=%20",
        "h:4317",
        "http://h:4318/x",
        "traceidratio",
    ]
)
# Texts that get past the first checks.
ENDPOINT = st.builds("{}{}".format, st.sampled_from(["http://", "https://", "", "http://h:", "http://["]), TEXT)
VALUE = TEXT | PLAUSIBLE | ENDPOINT


def loads(environ: dict[str, str]) -> Config | None:
    try:
        return load({}, environ)
    except ConfigError:
        return None


@given(st.dictionaries(st.sampled_from(VARIABLES), VALUE, max_size=8))
@settings(max_examples=400)
def test_any_environment_gives_a_configuration_or_a_config_error(environ: dict[str, str]) -> None:
    config = loads(environ)
    if config is not None:
        assert len(config.describe()) == len(SETTINGS)
        assert config.batch.max_export_batch_size <= config.batch.max_queue_size
        assert (config.traces.sampler_arg is None) == (not config.traces.sampler.endswith("traceidratio"))
        assert config.otlp.endpoint.startswith(("http://", "https://"))
        config.otlp.endpoint.encode()


@given(st.dictionaries(TEXT.map("OTELAGENT_{}".format) | TEXT, TEXT, max_size=4))
def test_any_names(environ: dict[str, str]) -> None:
    loads(environ)


@given(st.dictionaries(st.sampled_from(TUNING), VALUE | st.integers().map(str), max_size=len(TUNING)))
@settings(max_examples=300)
def test_tuning_variables_never_fail(environ: dict[str, str]) -> None:
    load({}, environ)


ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXT
    | st.binary()
    | st.lists(TEXT)
    | st.dictionaries(TEXT, TEXT)
)


@given(st.dictionaries(st.sampled_from([s.name for s in SETTINGS]), ANYTHING, max_size=6))
@settings(max_examples=300)
def test_any_keywords(keywords: dict[str, object]) -> None:
    with suppress(ConfigError):
        load(keywords, {})


@given(ENDPOINT, st.sampled_from(["http/protobuf", "grpc"]))
@settings(max_examples=400)
def test_any_endpoint(endpoint: str, protocol: str) -> None:
    loads({"OTELAGENT_ENDPOINT": endpoint, "OTELAGENT_PROTOCOL": protocol})
