"""The setting `routes`, and the routes of a destination: what is understood, and what is told of the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from otelagent.config import load
from otelagent.config.model import Rule
from otelagent.errors import ConfigError

RULES: list[dict[str, Any]] = [
    {"error": True},
    {"attributes": {"user.tier": ["gold", "platinum"], "http.route": "/pay*"}, "name": ["GET *", "é"]},
    {"resource": {"shop": 7}, "unrouted": False, "not": {"attributes": {"x": [True, 0.5]}}},
]
READ = (
    Rule(error=True, text='{"error": true}'),
    Rule(
        attributes={"user.tier": ("gold", "platinum"), "http.route": ("/pay*",)},
        name=("GET *", "é"),
        text=json.dumps(RULES[1], ensure_ascii=False),
    ),
    Rule(
        resource={"shop": ("7",)},
        unrouted=False,
        excluded=Rule(attributes={"x": ("true", "0.5")}),
        text=json.dumps(RULES[2]),
    ),
)


@pytest.mark.parametrize("way", ["keyword", "tuple", "text", "variable", "file", "destination"])
def test_every_way_to_give_them(way: str, tmp_path: Path) -> None:
    file = tmp_path / "routes.json"
    file.write_text(json.dumps(RULES))
    given: dict[str, Any] = {"keyword": RULES, "tuple": tuple(RULES), "text": json.dumps(RULES), "file": str(file)}
    if way == "variable":
        config = load({}, {"OTELAGENT_ROUTES": json.dumps(RULES)})
    elif way == "destination":
        config = load({"destinations": {"a": {"endpoint": "http://a", "routes": RULES}}}, {})
        assert config.routes == ()
        assert config.export("logs", "a").routes == READ
        return
    else:
        config = load({"routes": given[way]}, {})
    assert config.routes == config.export("traces").routes == config.export("logs").routes == READ


def test_they_are_shown_as_they_were_given() -> None:
    shown = {name: value for name, value, _ in load({"routes": RULES[:2]}, {}).describe()}
    assert shown["routes"] == ", ".join(rule.text for rule in READ[:2])
    assert {name: value for name, value, _ in load({}, {}).describe()}["routes"] == "(none)"


ENDLESS: dict[str, Any] = {}
ENDLESS["not"] = ENDLESS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"error": True}, "must be a list of rules; put the rule in a list"),
        (7, "must be a list of rules"),
        ("/no/such.json", "must be JSON or the path of a JSON file: No such file or directory"),
        ("[" + "7" * 5_000 + "]", "too long a number"),
        ([], "must have a rule; leave it out to take everything"),
        ([{"error": True}, 7], "rule 2: it must be a mapping of conditions"),
        ([{}], "rule 1: it must have a condition; there are error, name, attributes, resource, unrouted, not"),
        ([{"eror": True}], "rule 1: there is no condition 'eror'; did you mean 'error'?"),
        ([{"error": 1}], "rule 1: 'error' must be true or false"),
        ([{"unrouted": "yes"}], "rule 1: 'unrouted' must be true or false"),
        ([{"attributes": ["x"]}], "rule 1: 'attributes' must be a mapping of names to what their values have to be"),
        ([{"attributes": {}}], "rule 1: 'attributes' must be a mapping"),
        ([{"attributes": {7: "x"}}], "rule 1: 'attributes' must have texts as keys"),
        ([{"attributes": {"x": None}}], "rule 1: 'x' must be a text, a number, true or false, or a list of them"),
        ([{"attributes": {"x": [["a"]]}}], "rule 1: 'x' must be a text, a number, true or false, or a list of them"),
        ([{"attributes": {"x": 2**63}}], "rule 1: 'x' must be a text, a number"),
        ([{"resource": {"x": []}}], "rule 1: 'x' must be something: the list is empty; '*' is any value"),
        ([{"name": {}}], "rule 1: 'name' must be a text"),
        ([{"not": {}}], "rule 1: 'not' must have a condition"),
        ([{"not": [{"error": True}]}], "rule 1: 'not' must be a mapping of conditions"),
        ([{"not": {"not": {"error": True}}}], "rule 1: there is no condition 'not' in 'not'"),
        ([ENDLESS], "rule 1: there is no condition 'not' in 'not'"),
        ([{"name": "\ud800"}], "rule 1: it is not UTF-8"),
    ],
)
def test_what_is_wrong_is_told(given: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load({"routes": given}, {})
    assert message in str(error.value)
    assert error.value.setting == "routes"
    assert len(str(error.value)) < 400
    with pytest.raises(ConfigError) as error:
        load({"destinations": {"a": {"endpoint": "http://a", "routes": given}}}, {})
    assert message in str(error.value)
    assert error.value.setting == "destinations.a.routes"
