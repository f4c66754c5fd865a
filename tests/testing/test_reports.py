"""What a failing test shows, here and with pytest-xdist."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from tests.testing.running import Run

pytest_plugins = ["pytester"]

FAILING = """
import unittest

import pytest
import otelagent


def work():
    with otelagent.span("work", {"order.id": 7}), otelagent.span("check", kind="client"):
        pass


def test_fails(otelagent_spans):
    work()
    assert False


def test_passes(otelagent_spans):
    work()


def test_asks_for_something_else(otelagent_spans):
    work()
    open_ = otelagent.span("background")
    open_.__enter__()
    otelagent_spans.one("chekc", kind="client", attributes={"peer": "shop"})


@pytest.mark.usefixtures("otelagent_spans")
class OfUnittest(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _spans(self, otelagent_spans):
        self.spans = otelagent_spans

    def test_of_unittest(self):
        with otelagent.span("in a TestCase"):
            pass
        self.assertEqual(self.spans.tree(), "")
"""

TREE = ["*- spans -*", "2 spans:", "  INTERNAL work", "    CLIENT check"]


@pytest.mark.parametrize("parallel", [False, True], ids=["alone", "xdist"])
def test_the_tree_is_in_the_report_of_a_failing_test(run: Run, parallel: bool) -> None:
    arguments = ["-n", "2", "--junitxml=junit.xml"] if parallel else ["--junitxml=junit.xml"]
    result = run(FAILING, *arguments, plugins=("otelagent", *(["xdist"] if parallel else [])))
    result.assert_outcomes(passed=1, failed=3)
    # The order of reports is that of their tests' ends.
    text = result.stdout.str()
    for name, lines in {
        "test_fails": TREE,
        "test_asks_for_something_else": [
            "E*AssertionError: no span with name 'chekc', kind CLIENT, peer 'shop'",
            "E*nearest:",
            "E*  CLIENT check: its name is 'check', it has no peer",
            "E*begun and not ended:",
            "E*  INTERNAL background",
            *TREE,
            "begun and not ended:",
            "  INTERNAL background",
        ],
        "OfUnittest.test_of_unittest": ["*- spans -*", "1 span:", "  INTERNAL in a TestCase"],
    }.items():
        start = text.index(f"_ {name} _")
        pytest.LineMatcher(text[start:].splitlines()).fnmatch_lines(lines)
    # The test that passes shows nothing, and the one that fails only its own.
    assert text.partition("short test summary")[0].count("INTERNAL in a TestCase") <= 3
    cases = ElementTree.parse(run.pytester.path / "junit.xml").getroot().iter("testcase")
    assert {case.get("name"): case.find("failure") is not None for case in cases} == {
        "test_fails": True,
        "test_passes": False,
        "test_asks_for_something_else": True,
        "test_of_unittest": True,
    }


def test_what_a_receiver_got_is_in_the_report(run: Run) -> None:
    result = run(
        """
import http.client
import os
import subprocess
import sys

PROGRAM = "import otelagent; otelagent.init(); otelagent.span('of a child').__enter__().__exit__(None, None, None)"


def test_it(otlp_receiver):
    subprocess.run([sys.executable, "-c", PROGRAM], env={**os.environ, **otlp_receiver.environ}, check=True)
    connection = http.client.HTTPConnection(otlp_receiver.endpoint.removeprefix("http://"))
    connection.request("POST", "/v1/spans", b"", {"Content-Type": "application/json"})
    assert connection.getresponse().status == 404
    connection.close()
    otlp_receiver.wait_for(2, timeout_s=0.1)
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*AssertionError: 2 spans did not come within 0.1 s",
            "*- received spans -*",
            "1 span:",
            "  INTERNAL of a child",
            "refused: /v1/spans: there is no /v1/spans*",
        ]
    )


def test_runs_side_by_side_have_their_own(run: Run) -> None:
    run.passes(
        """
import pytest
import otelagent


@pytest.mark.parametrize("number", range(8))
def test_it(otelagent_spans, number, otlp_receiver):
    with otelagent.span(f"work {number}"):
        pass
    assert otelagent_spans.tree() == f"INTERNAL work {number}"
    assert otelagent.status()["settings"][0]
""",
        "-n",
        "2",
        plugins=("otelagent", "xdist"),
    ).assert_outcomes(passed=8)


def test_spans_that_cannot_be_read_end_no_run(run: Run) -> None:
    result = run(
        """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator


class Odd(RandomIdGenerator):
    def generate_span_id(self):
        return 2**64


trace.set_tracer_provider(TracerProvider(id_generator=Odd()))


def test_fails(otelagent_spans):
    with trace.get_tracer("app").start_as_current_span("odd"):
        pass
    assert False


def test_after_it(otelagent_spans):
    assert len(otelagent_spans) == 0
""",
        "--tb=line",
    )
    result.assert_outcomes(failed=1, passed=1)
