"""The harness end to end, in this environment: spans are made, arrive, and a sample says so. No time is asserted."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import report, run, sink, workloads
from benchmarks.environments import Unavailable
from benchmarks.peers.recording import Recording
from benchmarks.run import ask
from benchmarks.samples import Context, Sample

PEERS = ["opentelemetry", "otelagent-sdk"]
if importlib.util.find_spec("otelagent_native") is not None:
    PEERS.append("otelagent-native")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with sink.running(sys.executable) as address:
        yield address


def question(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{name}")


def answers(name: str, peer: str, address: str, turn: str = "") -> list[Sample]:
    return list(ask(question(name), Context(peer, address, True, turn), Path(sys.executable)))


@pytest.mark.parametrize("peer", PEERS)
def test_the_cost_of_spans_that_arrive(peer: str, address: str) -> None:
    samples = answers("span_cost", peer, address)
    assert {one.case for one in samples} == {
        *workloads.WORKLOADS,
        "attributes-0-unsampled",
        "attributes-5-unsampled",
        "attributes-20-unsampled",
    }
    for one in samples:
        assert not one.note
        assert (
            one.arrived
            == one.sent
            == (0 if one.case.endswith("unsampled") else 600 * (1 + 2 * (one.case == "children")))
        )
        assert one.values["thread_us"] > 0


@pytest.mark.parametrize("name", ["cold", "concurrency"])
def test_other_questions(name: str, address: str) -> None:
    samples = answers(name, PEERS[-1], address)
    assert samples
    for one in samples:
        assert not one.note
        assert one.arrived == one.sent
    assert sum(one.sent for one in samples) > 500


def test_what_an_outage_holds_back_arrives_after_it(address: str) -> None:
    (one,) = answers("outage", PEERS[-1], address)
    assert not one.note
    assert one.arrived == one.sent > 1_000
    assert one.values["outage_ratio"] == one.values["outage_p99_us"] / one.values["normal_p99_us"]


def test_memory_is_measured_in_a_process_that_ends_by_signal(address: str) -> None:
    samples = answers("memory", PEERS[-1], address)
    assert [one.case for one in samples] == ["started", "queued"]
    assert not any(one.note for one in samples)


def test_start_up_runs_the_program_bare_and_with_the_peer(address: str) -> None:
    samples = answers("startup", PEERS[-1], address)
    assert [one.case for one in samples] == ["code", "command"]
    for one in samples:
        assert not one.note
        assert one.values["bare_cpu_ms"] > 0


def test_frameworks_give_the_spans_of_their_calls(address: str) -> None:
    samples = answers("frameworks", PEERS[-1], address)
    assert [(one.case, one.sent, one.arrived) for one in samples] == [
        ("fastapi", 50, 50),
        ("flask", 50, 50),
        ("sqlite3", 50, 50),
    ]


def test_a_peer_that_is_not_there_is_a_note_and_no_end(address: str) -> None:
    (first, *_) = answers("cold", "ddtrace", address)
    assert "ddtrace" in first.note
    assert not first.values


def test_a_peer_that_hangs_is_ended(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.run.CHILD_TIMEOUT_S", 0.01)
    assert {one.note for one in answers("memory", "bare", address)} == {"hung for 0.01 s"}


def test_a_workload_calls_the_peers_own_methods() -> None:
    class Span:
        def __init__(self) -> None:
            self.tags: dict[str, object] = {}

        def __enter__(self) -> Span:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def set_tag(self, key: str, value: object) -> None:
            self.tags[key] = value

    made: list[Span] = []

    def span(name: str) -> Span:
        made.append(Span())
        return made[-1]

    recording = Recording(span, names={"set_attribute": "set_tag", "add_event": None})
    loop = workloads.loop_of("attributes-20", recording)
    assert loop is not None
    loop(3)
    assert [len(one.tags) for one in made] == [20, 20, 20]
    assert workloads.loop_of("event", recording) is None


def test_a_run_writes_its_results_and_goes_on_where_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def python_of(environment: str, say: object) -> Path:
        if environment == "ddtrace":
            raise Unavailable("no wheel for this Python")
        return Path(sys.executable)

    monkeypatch.setattr(run, "python_of", python_of)
    arguments = ["--quick", "--question", "cold", "--peer", "ddtrace", "--peer", PEERS[-1], "--output", str(tmp_path)]
    assert run.main(arguments) == 0
    printed = capsys.readouterr()
    assert "not available here: no wheel for this Python" in printed.out
    assert "cold, round 1 of 1" in printed.err
    assert run.MEANINGLESS in printed.out
    with pytest.raises(SystemExit, match="quick run"):
        report.main([str(tmp_path / "results.json"), "--plot", str(tmp_path / "no.svg")])
    _, samples = report.load(tmp_path / "results.json")
    assert {one.peer for one in samples} == {"ddtrace", PEERS[-1]}
    # Nothing is asked again, and the results are the same.
    assert run.main([*arguments, "--resume"]) == 0
    assert "cold, round 1 of 1" not in capsys.readouterr().err
    assert report.load(tmp_path / "results.json")[1] == samples


@pytest.mark.parametrize(("name", "turn"), [("ingest", "one"), ("ingest", "ten"), ("reading", "")])
def test_the_viewer_has_all_that_it_answered_for(name: str, turn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.viewers.python_of", lambda environment, say: Path(sys.executable))
    samples = answers(name, "otelagent-viewer", "", turn)
    assert not any(one.note for one in samples)
    sent = [one for one in samples if one.sent]
    assert sent
    assert all(one.arrived == one.sent for one in sent)
