from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import stat
import sys
from pathlib import Path

import pytest

from otelagent.config import load
from otelagent.delivery import Accepted, Payload, Rejected, Retryable
from otelagent.delivery.delivery import open_transport
from otelagent.delivery.transports.console import ConsoleTransport
from otelagent.delivery.transports.file import FileTransport
from tests.delivery.conftest import OpenBooks
from tests.delivery.harness import payload

GARBAGE = Payload("traces", b"<html>", 1)


def span_names(text: str) -> list[str]:
    lines = [json.loads(line) for line in text.splitlines() if line]
    return [line["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"] for line in lines]


class TestConsole:
    def test_writes_a_line_for_each_payload(self, capsys: pytest.CaptureFixture[str], open_books: OpenBooks) -> None:
        books = open_books(ConsoleTransport())
        books.submit(payload(2, "a"), payload(1, "b\n\u2028é"))
        assert books.flush()
        assert span_names(capsys.readouterr().out) == ["a", "b\n\u2028é"]

    def test_what_is_no_request(self) -> None:
        assert ConsoleTransport().send(GARBAGE, 1) == Rejected("encode_error", "the payload is no OTLP request")

    def test_no_standard_output(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdout", None)
        assert ConsoleTransport().send(payload(), 1) == Rejected("console", "the process has no standard output")
        closed = io.StringIO()
        closed.close()
        monkeypatch.setattr(sys, "stdout", closed)
        assert ConsoleTransport().send(payload(), 1) == Rejected("console", "I/O operation on closed file")


def append_many(path: str, name: str) -> None:
    transport = FileTransport(path)
    for _ in range(50):
        assert transport.send(payload(40, name), 1) == Accepted()
    transport.close()


class TestFile:
    def test_appends_a_line_for_each_payload(self, tmp_path: Path, open_books: OpenBooks) -> None:
        path = tmp_path / "traces.jsonl"
        for name in ("a", "b"):
            books = open_books(FileTransport(str(path)))
            books.submit(payload(1, name))
            assert books.shutdown()
        assert span_names(path.read_text()) == ["a", "b"]

    def test_only_its_owner_may_read_it(self, tmp_path: Path) -> None:
        path = tmp_path / "traces.jsonl"
        transport = FileTransport(str(path))
        before = os.umask(0o022)
        try:
            transport.send(payload(), 1)
        finally:
            os.umask(before)
            transport.close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_several_processes_share_it(self, tmp_path: Path) -> None:
        path = tmp_path / "traces.jsonl"
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=append_many, args=(str(path), name)) for name in "abc"]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
        names = span_names(path.read_text())
        assert sorted(names) == ["a"] * 50 + ["b"] * 50 + ["c"] * 50

    @pytest.mark.parametrize(
        ("name", "kind", "reason", "message"),
        [
            ("", Rejected, "file_eisdir", "{at}: Is a directory (set logs_file to another place)"),
            (
                "/missing/there.jsonl",
                Retryable,
                "file_enoent",
                "{at}/missing/there.jsonl: No such file or directory"
                " (make the directory {at}/missing, or set logs_file to another place)",
            ),
            (
                "/" + "x" * 300,
                Rejected,
                "file_enametoolong",
                "{at}/" + "x" * 300 + ": File name too long (set logs_file to another place)",
            ),
        ],
    )
    def test_a_path_that_cannot_be_opened_is_named_with_what_helps(
        self, tmp_path: Path, name: str, kind: type[Rejected | Retryable], reason: str, message: str
    ) -> None:
        settings = {"logs_exporter": "file", "logs_file": f"{tmp_path}{name}"}
        result = open_transport(load(settings, {}), "logs").send(payload(), 1)
        assert isinstance(result, kind)
        assert (result.reason, result.message) == (reason, message.format(at=tmp_path))

    def test_a_relative_path_is_told_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        result = FileTransport("missing/traces.jsonl").send(payload(), 1)
        assert isinstance(result, Retryable)
        assert f"{tmp_path}/missing/traces.jsonl: No such" in result.message
        assert "set file to" in result.message

    def test_a_full_device(self) -> None:
        transport = FileTransport("/dev/full")
        message = "/dev/full: No space left on device (make room there, or set file to another place)"
        assert transport.send(payload(), 1) == Retryable("file_enospc", None, message)
        transport.close()

    def test_a_disk_that_fills_up_in_a_line_and_has_space_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_books: OpenBooks
    ) -> None:
        path = tmp_path / "traces.jsonl"
        write = os.write
        failures: list[object] = [10, OSError(errno.ENOSPC, "No space left on device"), 5]

        def write_some(descriptor: int, data: bytes) -> int:
            if not failures:
                return write(descriptor, data)
            failure = failures.pop(0)
            if isinstance(failure, OSError):
                raise failure
            assert isinstance(failure, int)
            return write(descriptor, data[:failure])

        monkeypatch.setattr("otelagent.delivery.transports.file.os.write", write_some)
        books = open_books(FileTransport(str(path)))
        books.submit(payload(1, "a"), payload(1, "b"))
        assert books.flush()
        lines = path.read_text().splitlines()
        torn, whole = [line for line in lines if not line.endswith("}")], [line for line in lines if line.endswith("}")]
        assert len(torn) == 2
        assert span_names("\n".join(whole)) == ["a", "b"]

    def test_half_a_line_of_another_writer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "telemetry.jsonl"
        one, other = FileTransport(str(path)), FileTransport(str(path))
        assert other.send(payload(1, "before"), 1) == Accepted()
        write = os.write
        with monkeypatch.context() as full:
            full.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
            assert isinstance(one.send(payload(1, "torn"), 1), Retryable)
        for transport, name in ((other, "behind it"), (one, "torn"), (other, "after")):
            assert transport.send(payload(1, name), 1) == Accepted()
        lines = path.read_text().splitlines()
        assert len(lines.pop(1)) == 10
        assert span_names("\n".join(lines)) == ["before", "behind it", "torn", "after"]
        one.close()
        other.close()

    def test_half_a_line_that_another_writer_leaves_at_the_same_moment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "telemetry.jsonl"
        transport, write = FileTransport(str(path)), os.write

        def write_behind_half_a_line(descriptor: int, data: bytes) -> int:
            write(descriptor, b'{"resource')
            return write(descriptor, data)

        with monkeypatch.context() as shared:
            shared.setattr(os, "write", write_behind_half_a_line)
            first = transport.send(payload(1, "a"), 1)
        assert isinstance(first, Retryable)
        assert first.reason == "file_torn_line"
        assert transport.send(payload(1, "a"), 1) == Accepted()
        torn, whole = path.read_text().splitlines()
        assert torn.startswith('{"resource{')
        assert span_names(whole) == ["a"]
        transport.close()

    def test_a_pipe(self, tmp_path: Path) -> None:
        path = tmp_path / "pipe"
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        transport = FileTransport(str(path))
        assert transport.send(payload(1, "a"), 1) == transport.send(payload(1, "b"), 1) == Accepted()
        transport.close()
        assert span_names(os.read(reader, 65536).decode()) == ["a", "b"]
        os.close(reader)

    def test_a_file_that_may_only_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "telemetry.jsonl"
        open_ = os.open

        def refuse_reading(name: str, flags: int, mode: int = 0o777) -> int:
            if not flags & os.O_WRONLY:
                raise PermissionError(errno.EACCES, "Permission denied")
            return open_(name, flags, mode)

        monkeypatch.setattr(os, "open", refuse_reading)
        transport = FileTransport(str(path))
        assert transport.send(payload(1, "a"), 1) == transport.send(payload(1, "b"), 1) == Accepted()
        transport.close()
        assert span_names(path.read_text()) == ["a", "b"]

    def test_what_is_no_request(self, tmp_path: Path) -> None:
        transport = FileTransport(str(tmp_path / "x"))
        assert transport.send(GARBAGE, 1) == Rejected("encode_error", "the payload is no OTLP request")


@pytest.mark.parametrize("transport", [ConsoleTransport(), FileTransport("/nowhere/x")])
def test_other_signals_have_no_form_yet(transport: ConsoleTransport | FileTransport) -> None:
    result = transport.send(Payload("profiles", b"", 1), 1)
    assert isinstance(result, Rejected)
    assert result.reason == "unsupported_signal"
