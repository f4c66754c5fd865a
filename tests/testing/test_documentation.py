"""The examples of docs/testing.md are run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.testing.running import Run

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


def test_the_examples_pass(run: Run) -> None:
    files = re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == [
        "shop.py",
        "test_shop.py",
        "test_snapshot.py",
        "test_worker.py",
        "conftest.py",
    ]
    for name, source in files:
        (run.pytester.path / name).write_text(source)
    run.passes(
        "def test_the_session_scope(collector): assert collector.endpoint",
        "--inline-snapshot=disable",
        plugins=("otelagent", "inline_snapshot"),
    ).assert_outcomes(passed=6)


def test_the_report_is_as_shown(run: Run) -> None:
    page = PAGE.read_text()
    files = dict(re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    (run.pytester.path / "shop.py").write_text(files["shop.py"])
    result = run(
        "from fastapi.testclient import TestClient\nfrom shop import app\n\n\n"
        "def test_it(otelagent_spans):\n    TestClient(app).get('/orders/7')\n    raise AssertionError\n"
    )
    shown = page[page.index("    ---") :].partition("\n\n")[0]
    assert "\n".join(line[4:] for line in shown.splitlines()) in result.stdout.str()
