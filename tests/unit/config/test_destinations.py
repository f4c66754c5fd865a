"""The setting `destinations`: each is given as the main one is, means the same, and inherits nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from otelagent.config import SETTINGS, load
from otelagent.config.model import Export
from otelagent.errors import ConfigError, UnknownSettingError

VENDOR = {"endpoint": "https://me:s3cret@vendor.example", "headers": {"API-Key": "s3cret"}, "timeout_ms": "500"}


def test_one_has_every_setting_of_the_main_one_and_its_defaults() -> None:
    config = load({"destinations": {"errors": VENDOR}, "timeout_ms": 7, "headers": "a=b", "compression": "gzip"}, {})
    (errors,) = config.destinations
    assert (errors.name, set(errors.otlp)) == ("errors", {"traces", "logs"})
    alone = load({**VENDOR, "logs_exporter": "otlp"}, {})
    assert errors.otlp == {"traces": alone.otlp, "logs": alone.logs.otlp}
    assert errors.otlp["logs"].endpoint == "https://me:s3cret@vendor.example/v1/logs"
    assert config.otlp.headers.keys() == {"a"}
    assert errors.otlp["traces"].headers.keys() == {"api-key"}
    assert errors.otlp["traces"].compression == "none"


def test_rows_of_the_main_destination_are_keys() -> None:
    """Whatever the table has of OTLP: a key that is wrong is found to be so by the main one's own code."""
    for setting in SETTINGS:
        if setting.path.startswith("otlp.") and setting.name != "endpoint":
            wrong: dict[str, Any] = {"endpoint": "http://c", setting.name: object()}
            with pytest.raises(ConfigError) as error:
                load({"destinations": {"errors": wrong}}, {})
            assert error.value.setting == f"destinations.errors.{setting.name}"


def test_where_each_signal_goes() -> None:
    destinations = {
        "a": {"endpoint": "http://a", "signals": ["traces"]},
        "b": {"endpoint": "b:4317", "protocol": "grpc", "signals": "logs"},
    }
    config = load({"destinations": destinations, "logs_exporter": "file"}, {})
    assert config.destination_names("traces") == ("", "a")
    assert config.destination_names("logs") == ("", "b")
    assert config.export("traces", "a") == Export("otlp", config.destinations[0].otlp["traces"], "")
    assert config.export("logs", "b").otlp.endpoint == "https://b:4317"
    assert config.export("logs").exporter == "file"
    assert load({"exporter": "none", "destinations": destinations}, {}).destination_names("traces") == ()


@pytest.mark.parametrize("way", ["keyword", "keyword text", "variable", "file"])
def test_every_way_to_give_them(way: str, tmp_path: Path) -> None:
    text = json.dumps({"errors": VENDOR})
    file = tmp_path / "destinations.json"
    file.write_text(text)
    keywords: dict[str, object] = {}
    variables: dict[str, str] = {}
    if way.startswith("keyword"):
        keywords = {"destinations": text if "text" in way else {"errors": VENDOR}}
    else:
        variables = {"OTELAGENT_DESTINATIONS": text if way == "variable" else str(file)}
    config = load(keywords, variables)
    assert config.destinations == load({"destinations": {"errors": VENDOR}}, {}).destinations
    assert str(config.sources["destinations"]) == ("init()" if keywords else "OTELAGENT_DESTINATIONS")


def test_secrets_are_masked() -> None:
    config = load({"destinations": {"errors": VENDOR}}, {})
    assert "s3cret" not in repr(config)
    (shown,) = [value for name, value, _ in config.describe() if name == "destinations"]
    assert shown == "errors → https://***@vendor.example/v1/traces and https://***@vendor.example/v1/logs"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "destinations = '***' (from init()): must be a mapping of names to destinations, not an int"),
        ("[]", "destinations = '***' (from init()): must be a mapping of names to destinations, not a list"),
        ("{'a': 1}", "line 1, column 2"),
        ('{"a": {}, "a": {}}', "destinations = '***' (from init()): 'a' is there twice"),
        ("[" * 100_000, "nested too deep"),
        ("/no/such.json", "must be JSON or the path of a JSON file: No such file or directory"),
        ('errors={"headers": "s3cret"}', "must be JSON or the path of a JSON file: No such file or directory"),
        ({"Errors": VENDOR}, "destinations = 'Errors' (from init()): a destination's name must be 1 to 32 of the"),
        ({"x" * 33: VENDOR}, "1 to 32"),
        ({"": VENDOR}, "1 to 32"),
        ({"a:b": VENDOR}, "1 to 32"),
        ({7: VENDOR}, "1 to 32"),
        ({"console": VENDOR}, "'console' (from init()): is the name of what the setting console shows"),
        ({"a": "http://c"}, "destinations.a = '***' (from init()): must be a mapping of its settings"),
        ({"a": {}}, "destinations.a.endpoint = None (from init()): has to be given"),
        ({"a": {"endpoint": "nowhere"}}, "destinations.a.endpoint = 'nowhere' (from init()): must start with http://"),
        ({"a": {"endpont": "s3cret"}}, "destinations.a.endpont (from init()): there is no such setting; did you mean"),
        ({"a": {"endpont": "s3cret"}}, "did you mean endpoint?"),
        ({"a": {**VENDOR, "exporter": "file"}}, "destinations.a.exporter (from init()): there is no such setting"),
        ({"a": {**VENDOR, "signals": []}}, "destinations.a.signals = [] (from init()): must name one at least"),
        ({"a": {**VENDOR, "signals": "trace"}}, "did you mean 'traces'?"),
        ({"a": {**VENDOR, "headers": "a b=s3cret"}}, "destinations.a.headers = '***' (from init()): a header's name"),
        ({"a": {**VENDOR, "protocol": "http/json"}}, "destinations.a.protocol = 'http/json' (from init()): otelagent"),
        (
            {"a": {**VENDOR, "timeout_ms": "soon", "signals": "logs"}},
            "destinations.a.timeout_ms = 'soon' (from init())",
        ),
    ],
)
def test_what_is_wrong_is_named(given: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load({"destinations": given}, {})
    assert message in str(error.value)
    assert "s3cret" not in str(error.value)
    assert error.value.source == "init()"


def test_an_unknown_key_is_an_unknown_setting() -> None:
    with pytest.raises(UnknownSettingError):
        load({}, {"OTELAGENT_DESTINATIONS": '{"a": {"what": 1}}'})


def test_what_looks_wrong_is_told() -> None:
    given = {"a": {"endpoint": "http://c:4317", "signals": ["logs"]}}
    warnings = load({}, {"OTELAGENT_DESTINATIONS": json.dumps({**given, "b": {"endpoint": "http://c"}})}).warnings
    assert warnings == (
        "destinations.a: endpoint = 'http://c:4317' (from OTELAGENT_DESTINATIONS): port 4317 is usually gRPC's and"
        " the protocol is http/protobuf: use port 4318, or protocol grpc",
        "destinations.a: no logs go there, for logs_exporter is none",
    )
