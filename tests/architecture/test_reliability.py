"""What docs/reliability.md says exists: its tests, its faults, and the defaults that it quotes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from otelagent.config.settings import SETTINGS
from tests.faults.registry import load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()


def names(path: Path) -> set[str]:
    """The tests of a file, as pytest names them."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


def test_every_test_that_it_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`", PAGE)
    assert len(named) > 50
    missing = [f"{file}::{test}" for file, test in named if test not in names(ROOT / file)]
    assert missing == []


def test_every_fault_that_it_names_is_run() -> None:
    text = re.sub(r"<!-- faults:begin -->.*<!-- faults:end -->", "", PAGE, flags=re.DOTALL)
    named = set()
    for numbers in re.findall(r"\b[Ff]aults? (\d+(?:(?:, | and | to )\d+)*)", text):
        named |= {int(number) for number in re.findall(r"\d+", numbers)}
    assert named
    assert named <= {fault.number for fault in load()}


def test_the_defaults_that_it_quotes_are_the_settings() -> None:
    defaults = {setting.name: str(setting.default) for setting in SETTINGS}
    quoted = re.findall(r"`(\w+)` = `([^`]+)`", PAGE)
    assert len(quoted) > 10
    assert [(name, value) for name, value in quoted if defaults.get(name) != value] == []
