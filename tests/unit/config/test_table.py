"""The README's table of settings, and what importing the configuration costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from otelagent.config import SETTINGS
from otelagent.config.table import main, markdown, replaced


def test_the_table_has_every_setting_with_its_variables() -> None:
    lines = markdown().splitlines()
    assert len(lines) == len(SETTINGS) + 2
    for setting, line in zip(SETTINGS, lines[2:], strict=True):
        assert line.startswith(f"| `{setting.name}` | `{setting.variable}`")
        assert all(f"`{variable}`" in line for variable in setting.otel)
        assert line.count("|") == 5
    assert "| `timeout_ms` |" in markdown()
    assert "| `10000` ms | How long one attempt to export may take. |" in markdown()


def test_prints_without_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out == markdown()


def test_write_and_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# x\n\n<!-- settings:begin -->\nold\n<!-- settings:end -->\n\nrest\n", encoding="utf-8")
    assert main(["--check", str(readme)]) == 1
    assert "out of date" in capsys.readouterr().err
    assert main(["--write", str(readme)]) == 0
    assert main(["--check", str(readme)]) == 0
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("# x\n\n<!-- settings:begin -->\n\n| Keyword |")
    assert text.endswith("|\n\n<!-- settings:end -->\n\nrest\n")
    assert replaced(text) == text


def test_a_document_without_markers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- settings:end --> <!-- settings:begin -->", encoding="utf-8")
    assert main(["--write", str(readme)]) == 2
    assert "no <!-- settings:begin -->" in capsys.readouterr().err


def test_importing_and_loading_stays_light() -> None:
    """Nothing is new beyond what the OpenTelemetry API imports anyway."""
    program = (
        "import sys, opentelemetry.trace\n"
        "before = set(sys.modules)\n"
        "from otelagent.config import load\n"
        "load({}, {})\n"
        "print(*sorted(n for n in set(sys.modules) - before if not n.startswith('otelagent')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert not done.stdout.split()
