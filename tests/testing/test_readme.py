"""The examples of the README are run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support import run_program
from tests.testing.running import Run

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
TESTS = [source for source in EXAMPLES if "def test_" in source]
PROGRAMS = [source for source in EXAMPLES if source not in TESTS]

SHOP = """
import sqlite3
from fastapi import FastAPI

sqlite3.connect("orders").execute("CREATE TABLE orders (id)").connection.close()
app = FastAPI()

@app.get("/orders/{order_id}")
def order(order_id: int):
    database = sqlite3.connect("orders")
    found = database.execute("SELECT id FROM orders WHERE id = ?", (order_id,)).fetchone()
    database.close()
    return found
"""


def test_the_programs_run(tmp_path: Path) -> None:
    assert len(PROGRAMS) == 3
    for source in PROGRAMS:
        outcome = run_program(tmp_path, source)
        assert (outcome.code, outcome.err) == (0, "")


def test_the_tests_pass(run: Run) -> None:
    assert len(TESTS) == 1
    (run.pytester.path / "shop.py").write_text(SHOP)
    for source in TESTS:
        run.passes(source).assert_outcomes(passed=1)
