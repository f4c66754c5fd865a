"""Where values come from, which one wins, and what is said about it."""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from typing import Any

import pytest

from otelagent.config import SETTINGS, Config, Secret, load
from otelagent.config.model import CONSOLE, Queue, Source
from otelagent.config.settings import CONFIG_FILE, KNOWN_UNUSED, SETTINGS_BY_NAME, Setting
from otelagent.errors import ConfigError

# For each kind a value as a keyword, another one's text, and what they parse to.
SAMPLES: dict[str, tuple[tuple[object, object], tuple[str, object]]] = {
    "text": (("one", "one"), ("two", "two")),
    "bool": ((True, True), ("false", False)),
    "int": ((700, 700), ("600", 600)),
    "ratio": ((0.25, 0.25), ("0.5", 0.5)),
    "choices": ((["b3"], ("b3",)), ("jaeger", ("jaeger",))),
    "names": ((["flask"], ("flask",)), ("django,click", ("django", "click"))),
    "patterns": ((["/health"], ("/health",)), ("/a,/b", ("/a", "/b"))),
    "attributes": (({"a": "1"}, {"a": "1"}), ("b=2", {"b": "2"})),
    "parameters": (({"a": "1"}, {"a": Secret("1")}), ("b=2", {"b": Secret("2")})),
    "secret": (("one", Secret("one")), ("two", Secret("two"))),
}

# What a setting is nothing without.
NEEDED: dict[str, dict[str, str]] = {
    "ratio": {"OTELAGENT_SAMPLER": "traceidratio"},
    "oauth2": {
        "OTELAGENT_OAUTH2_TOKEN_URL": "https://idp/token",
        "OTELAGENT_OAUTH2_CLIENT_ID": "shop",
        "OTELAGENT_OAUTH2_CLIENT_SECRET": "s3cret",
    },
}


def needed(setting: Setting) -> dict[str, str]:
    return NEEDED["oauth2"] if "oauth2_" in setting.name else NEEDED.get(setting.kind, {})


def value_of(config: Config, setting: Setting) -> Any:
    return attrgetter(setting.path)(config)


def test_defaults() -> None:
    config = load({}, {})
    assert config.warnings == ()
    assert set(config.sources.values()) == {Source("default", "default")}
    assert config.service.name == "unknown_service:python"
    assert (config.traces.exporter, config.traces.sampler, config.traces.sampler_arg) == (
        "otlp",
        "parentbased_always_on",
        None,
    )
    assert config.otlp.endpoint == "http://localhost:4318/v1/traces"
    assert (config.otlp.protocol, config.otlp.timeout_ms, config.otlp.compression) == ("http/protobuf", 10_000, "none")
    assert config.otlp.headers == {}
    assert config.otlp.insecure is None
    assert vars(config.batch) == {
        "schedule_delay_ms": 5_000,
        "export_timeout_ms": 30_000,
        "max_queue_size": 2_048,
        "queue_max_bytes": 33_554_432,
        "max_export_batch_size": 512,
    }
    assert vars(config.queue) == {"max_bytes": 67_108_864, "export_max_bytes_per_s": 0}
    assert vars(config.spool) == {
        "enabled": True,
        "directory": None,
        "max_bytes": 268_435_456,
        "max_age_ms": 259_200_000,
        "full": "drop_oldest",
        "replay_bytes_per_s": 1_048_576,
    }
    assert (config.retry.initial_backoff_ms, config.retry.max_backoff_ms) == (1_000, 30_000)
    assert vars(config.limits) == {
        "attribute_count": 128,
        "attribute_value_length": None,
        "event_count": 128,
        "link_count": 128,
        "event_attribute_count": 128,
        "link_attribute_count": 128,
    }
    assert config.propagators == ("tracecontext", "baggage")
    assert config.instrumentation.contrib is True
    assert (config.enabled, config.engine, config.log_level, config.quiet) == (True, "auto", "info", False)
    assert (config.exit_timeout_ms, config.file_path) == (2_000, "otelagent-traces.jsonl")


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.kind in SAMPLES], ids=lambda s: s.name)
def test_a_keyword_beats_its_own_variable(setting: Setting) -> None:
    (keyword, from_keyword), (text, from_text) = SAMPLES[setting.kind]
    if setting.kind == "int" and setting.minimum > 600:
        (keyword, from_keyword), (text, from_text) = (2**20, 2**20), ("1000000", 1_000_000)
    others = needed(setting)

    config = load({}, {**others, setting.variable: text})
    assert value_of(config, setting) == from_text
    assert config.sources[setting.name] == Source("otelagent_env", setting.variable)

    config = load({setting.name: keyword}, {**others, setting.variable: text})
    assert from_keyword.items() <= value_of(config, setting).items() if isinstance(from_keyword, dict) else True
    assert isinstance(from_keyword, dict) or value_of(config, setting) == from_keyword
    assert config.sources[setting.name].kind == "keyword"


@pytest.mark.parametrize(
    ("setting", "variable"),
    [(s, variable) for s in SETTINGS if s.kind in SAMPLES for variable in s.otel],
    ids=lambda item: item if isinstance(item, str) else item.name,
)
def test_the_specifications_variable_is_read_and_our_own_beats_it(setting: Setting, variable: str) -> None:
    (_, _), (text, expected) = SAMPLES[setting.kind]
    others = needed(setting)
    config = load({}, {variable: text, **others})
    assert value_of(config, setting) == (not expected if setting.inverted else expected)
    assert config.sources[setting.name] == Source("otel_env", variable)
    assert config.warnings == ()

    other = {"int": "42", "ratio": "0.125", "bool": "yes"}.get(
        setting.kind, "b3" if setting.kind == "choices" else "c=3"
    )
    if setting.name in ("batch_max_queue_size",):
        other = "512"
    config = load({}, {variable: text, setting.variable: other, **others})
    assert config.sources[setting.name].kind == "otelagent_env"


@pytest.mark.parametrize("setting", [s for s in SETTINGS if len(s.otel) > 1 and s.kind == "int"], ids=lambda s: s.name)
def test_the_more_specific_variable_wins(setting: Setting) -> None:
    specific, general = setting.otel
    given = {"logs_exporter": "otlp"}
    config = load(given, {specific: "11", general: "22"})
    assert value_of(config, setting) == 11
    assert config.sources[setting.name] == Source("otel_env", specific)
    # A value that can't be used counts as not set.
    config = load(given, {specific: "eleven", general: "22"})
    assert value_of(config, setting) == 22
    assert len(config.warnings) == 1
    assert config.warnings[0].startswith(f"{specific}='eleven' ignored: must be a whole number")
    assert config.warnings[0].endswith(f"; using 22 ({general})")


def test_one_general_limit_holds_for_all_attributes() -> None:
    limits = load({}, {"OTEL_ATTRIBUTE_COUNT_LIMIT": "7", "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "3"}).limits
    assert (limits.attribute_count, limits.event_attribute_count, limits.link_attribute_count) == (7, 3, 7)
    assert limits.event_count == 128


def test_an_option_shows_as_an_option() -> None:
    environ = {
        "OTELAGENT_SAMPLER": "always_on",
        "OTELAGENT_SERVICE_NAME": "shop",
        "OTELAGENT_INTERNAL_OPTIONS": "service-name, quiet",
        "OTELAGENT_INTERNAL_WHATEVER": "1",
    }
    config = load({}, environ)
    assert str(config.sources["service_name"]) == "--service-name"
    assert config.sources["service_name"].kind == "option"
    assert str(config.sources["sampler"]) == "OTELAGENT_SAMPLER"
    assert str(load({"service_name": "x"}, environ).sources["service_name"]) == "init()"


def test_an_empty_variable_is_an_unset_one() -> None:
    environ = {variable: " " for setting in SETTINGS for variable in (setting.variable, *setting.otel)}
    assert load({}, environ | {"OTELAGENT_NO_SUCH": "", CONFIG_FILE: ""}) == load({}, {})


def test_a_keyword_that_is_none_is_not_given() -> None:
    assert load(dict.fromkeys(SETTINGS_BY_NAME), {}) == load({}, {})


def test_an_empty_list_clears_a_weaker_source() -> None:
    environ = {"OTEL_PYTHON_EXCLUDED_URLS": "/health", "OTEL_PROPAGATORS": "b3"}
    config = load({"excluded_urls": (), "propagators": []}, environ)
    assert config.instrumentation.excluded_urls == ()
    assert config.propagators == ()


def test_a_value_that_a_stronger_source_hides_is_not_looked_at() -> None:
    config = load({"timeout_ms": 5}, {"OTELAGENT_TIMEOUT_MS": "soon", "OTEL_EXPORTER_OTLP_TIMEOUT": "later"})
    assert config.otlp.timeout_ms == 5
    assert config.warnings == ()


def test_the_declarative_file_is_not_read_yet() -> None:
    (warning,) = load({}, {CONFIG_FILE: "otel.yaml"}).warnings
    assert warning == "OTEL_CONFIG_FILE='otel.yaml' is not read yet: settings come from keywords and variables alone"


class TestService:
    def test_the_setting_beats_the_attribute_of_its_own_level(self) -> None:
        environ = {
            "OTEL_SERVICE_NAME": "shop",
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,service.version=1.2,a=b%20c",
        }
        config = load({}, environ)
        assert config.service.name == "shop"
        assert config.service.version == "1.2"
        assert config.service.resource_attributes == {"a": "b c"}
        assert config.sources["service_name"].name == "OTEL_SERVICE_NAME"
        assert config.sources["service_version"].name == "OTEL_RESOURCE_ATTRIBUTES"

    def test_the_attribute_of_a_stronger_level_beats_the_setting(self) -> None:
        config = load({"resource_attributes": {"service.name": "mine"}}, {"OTEL_SERVICE_NAME": "shop"})
        assert config.service.name == "mine"
        assert str(config.sources["service_name"]) == "init()"

    def test_attributes_are_merged_key_by_key(self) -> None:
        config = load(
            {"resource_attributes": {"a": 1, "flag": True}},
            {"OTEL_RESOURCE_ATTRIBUTES": "a=2,b=3,deployment.environment.name=prod"},
        )
        assert config.service.resource_attributes == {"a": "1", "flag": "true", "b": "3"}
        assert config.service.environment == "prod"
        assert config.sources["resource_attributes"] == Source("keyword", "init(), OTEL_RESOURCE_ATTRIBUTES")

    @pytest.mark.parametrize("text", ["a", "a=1,b", "=1", "a=%zz", "a=%ff", "a b=1", "a=1;b,c"])
    def test_malformed_attributes_are_discarded_as_a_whole(self, text: str) -> None:
        config = load({}, {"OTEL_RESOURCE_ATTRIBUTES": f"ok=1,{text}"})
        assert config.service.resource_attributes == {}
        assert len(config.warnings) == 1
        assert config.warnings[0].startswith("OTEL_RESOURCE_ATTRIBUTES=")
        with pytest.raises(ConfigError):
            load({"resource_attributes": text}, {})


class TestSampler:
    @pytest.mark.parametrize(
        ("settings", "environ", "expected"),
        [
            ({"sampler": "traceidratio"}, {}, ("traceidratio", 1.0)),
            ({"sampler": "parentbased_traceidratio", "sampler_arg": 0}, {}, ("parentbased_traceidratio", 0.0)),
            ({}, {"OTEL_TRACES_SAMPLER": "TraceIdRatio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}, ("traceidratio", 0.1)),
            ({"sampler": "always_on"}, {"OTEL_TRACES_SAMPLER_ARG": "0.1"}, ("always_on", None)),
            ({"sampler": "always_on"}, {"OTELAGENT_SAMPLER_ARG": "0.1"}, ("always_on", None)),
        ],
    )
    def test_argument(self, settings: dict[str, object], environ: dict[str, str], expected: tuple[str, float]) -> None:
        config = load(settings, environ)
        assert (config.traces.sampler, config.traces.sampler_arg) == expected
        assert config.warnings == ()

    def test_an_argument_without_its_sampler(self) -> None:
        with pytest.raises(ConfigError) as caught:
            load({"sampler_arg": 0.1}, {})
        assert str(caught.value) == (
            "sampler_arg = 0.1 (from init()): sampler parentbased_always_on takes none; "
            "use sampler 'parentbased_traceidratio'"
        )
        (warning,) = load({}, {"OTEL_TRACES_SAMPLER_ARG": "0.1"}).warnings
        assert warning == "OTEL_TRACES_SAMPLER_ARG=0.1 has no effect: sampler parentbased_always_on takes none"


class TestPairs:
    def test_a_batch_fits_its_queue(self) -> None:
        with pytest.raises(ConfigError) as caught:
            load({"batch_max_export_batch_size": 3000}, {})
        assert str(caught.value) == (
            "batch_max_export_batch_size = 3000 (from init()): "
            "must not exceed batch_max_queue_size, which is 2048 (from default); try 2048"
        )
        config = load({"batch_max_queue_size": 10}, {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "20"})
        assert config.batch.max_export_batch_size == 10
        assert config.warnings == (
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=20 exceeds batch_max_queue_size, which is 10; using 10",
        )
        config = load({}, {"OTEL_BSP_MAX_QUEUE_SIZE": "10"})
        assert config.batch.max_export_batch_size == 10
        assert config.warnings == ()

    def test_the_first_backoff_is_not_the_longest(self) -> None:
        assert load({"retry_max_backoff_ms": 10}, {}).retry.initial_backoff_ms == 10
        with pytest.raises(ConfigError, match="must not exceed retry_max_backoff_ms"):
            load({"retry_initial_backoff_ms": 40_000}, {})


class TestModel:
    def test_is_frozen(self) -> None:
        config = load({}, {})
        for target, name in ((config, "quiet"), (config.otlp, "endpoint"), (config.otlp, "invented")):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(target, name, "x")
        with pytest.raises(dataclasses.FrozenInstanceError):
            del config.quiet
        with pytest.raises(TypeError):
            config.sources["x"] = Source("default", "default")  # type: ignore[index]

    def test_compares_by_value_and_can_be_replaced(self) -> None:
        config = load({}, {})
        assert config == load({}, {})
        assert config != load({"quiet": True}, {})
        assert config != object()
        changed = dataclasses.replace(config, quiet=True, batch=dataclasses.replace(config.batch, max_queue_size=9))
        assert (changed.quiet, changed.batch.max_queue_size) == (True, 9)

    def test_takes_exactly_its_fields(self) -> None:
        with pytest.raises(TypeError, match=r"Queue: fields .* missing or unknown"):
            Queue(size=1)  # type: ignore[call-arg]

    def test_describes_every_setting(self) -> None:
        described = load({"headers": {"api-key": "s3cret"}}, {"OTEL_BSP_SCHEDULE_DELAY": "250"}).describe()
        assert [name for name, _, _ in described] == [setting.name for setting in SETTINGS]
        assert ("headers", "api-key=***", "init()") in described
        assert ("batch_schedule_delay_ms", "250", "OTEL_BSP_SCHEDULE_DELAY") in described
        assert ("service_version", "(not set)", "default") in described
        assert ("propagators", "tracecontext, baggage", "default") in described


class TestTable:
    def test_names_and_paths_are_unique(self) -> None:
        assert (
            len({setting.name for setting in SETTINGS}) == len({setting.path for setting in SETTINGS}) == len(SETTINGS)
        )

    def test_time_units_are_in_the_names(self) -> None:
        assert all(setting.name.endswith("_ms") for setting in SETTINGS if setting.unit == "ms")
        assert all(setting.name.endswith("_bytes") for setting in SETTINGS if setting.unit == "bytes")

    def test_every_variable_of_the_specification_is_known(self) -> None:
        import opentelemetry.environment_variables as api
        import opentelemetry.sdk.environment_variables as sdk

        known = {variable for setting in SETTINGS for variable in setting.otel} | {CONFIG_FILE}
        defined = {
            value
            for module in (api, sdk)
            for value in vars(module).values()
            if isinstance(value, str) and value[:5] == "OTEL_"
        }
        assert len(defined) > 70
        unused = {
            name
            for name in defined
            if any(name.startswith(item[:-1]) if item.endswith("*") else name == item for item in KNOWN_UNUSED)
        }
        assert defined - known - unused == set()
        assert known & unused == set()

    def test_known_but_unused_variables_pass_silently(self) -> None:
        environ = {item.replace("*", "X"): "nonsense" for item in KNOWN_UNUSED}
        assert load({}, environ) == load({}, {})


class TestConsole:
    """Who looks at the terminal sees what ends at once."""

    @pytest.mark.parametrize("console", ["lines", "tree", "json"])
    def test_json_comes_without_a_line_at_start(self, console: str) -> None:
        assert load({"console": console}, {}).quiet is (console == "json")
        assert load({"console": console, "quiet": False}, {}).quiet is False
        assert load({"console": console}, {"OTELAGENT_QUIET": "true"}).quiet is True

    @pytest.mark.parametrize("console", ["lines", "tree", "json"])
    def test_a_batch_waits_less(self, console: str) -> None:
        assert load({"console": console}, {}).batch.schedule_delay_ms == 100

    def test_unless_it_is_said_how_long(self) -> None:
        assert load({"console": "tree"}, {"OTEL_BSP_SCHEDULE_DELAY": "700"}).batch.schedule_delay_ms == 700
        assert load({"console": "tree", "batch_schedule_delay_ms": 5000}, {}).batch.schedule_delay_ms == 5000
        assert load({}, {}).batch.schedule_delay_ms == 5000

    def test_it_is_one_more_place_for_spans_alone(self) -> None:
        config = load({}, {"OTELAGENT_CONSOLE": "Lines", "OTELAGENT_EXPORTER": "none"})
        assert (config.console, config.destination_names("traces")) == ("lines", ())
        assert config.export("traces", CONSOLE).exporter == "terminal"
