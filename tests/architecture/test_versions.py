"""Both distributions have one version, and the extra asks for it."""

from __future__ import annotations

import re
from pathlib import Path

import otelagent
from otelagent.version import VERSION
from tests.support import native_or_skip

ROOT = Path(__file__).parents[2]


def only(pattern: str, file: str) -> str:
    (found,) = re.findall(pattern, (ROOT / file).read_text(), re.MULTILINE)
    assert isinstance(found, str)
    return found


def test_the_workspace_and_the_extra_have_the_version_of_otelagent() -> None:
    assert only(r'^version = "(.*)"$', "native/Cargo.toml") == VERSION
    assert only(r'^native = \["otelagent-native==(.*)"\]$', "pyproject.toml") == VERSION
    assert otelagent.__version__ == VERSION


def test_the_native_engine_that_is_built_has_it_too() -> None:
    native_or_skip()
    import otelagent_native

    assert otelagent_native.__version__ == VERSION
