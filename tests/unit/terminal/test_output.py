"""Writing to a descriptor that may be anything."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

import pytest

from otelagent import threads
from otelagent.terminal import Output
from tests.support import fill_pipe, wait_until

PATIENCE_S = 30.0
AT_ONCE_S = 0.2


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(descriptor)


@pytest.fixture(params=["", "the interpreter ends"], ids=["with threads", "without"])
def threads_or_not(request: pytest.FixtureRequest) -> Iterator[None]:
    threads.hold_back(request.param)
    yield
    threads.hold_back("")


@pytest.mark.usefixtures("threads_or_not")
def test_everything_arrives(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    texts = [f"{number} {'x' * 900}\n" for number in range(20)] + ["y" * 10_000 + "\n"]
    assert Output(writer).write(texts, PATIENCE_S) == ""
    assert os.read(reader, 100_000).decode() == "".join(texts)


@pytest.mark.usefixtures("threads_or_not")
def test_a_reader_that_has_gone(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    assert Output(writer).write(["text\n"], PATIENCE_S) == "terminal_closed"


def test_a_descriptor_that_is_closed(pipe: tuple[int, int]) -> None:
    os.close(pipe[1])
    output = Output(pipe[1])
    assert output.write(["text\n"], PATIENCE_S) == "terminal_closed"
    assert not output.is_terminal()
    assert not output.style().colour


def test_what_hangs_goes_on_when_its_reader_does(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    fill_pipe(writer)
    output = Output(writer)
    assert output.write(["first\n"], AT_ONCE_S) == "terminal_blocked"
    assert output.write(["never\n"], AT_ONCE_S) == "terminal_blocked"
    wait_until(output.stalled)
    read = os.read(reader, 2**20)
    wait_until(lambda: not output.stalled())
    assert output.write(["second\n"], PATIENCE_S) == ""
    assert not output.stalled()
    assert (read + os.read(reader, 2**20)).strip(b"\0") == b"first\nsecond\n"


def test_a_slow_reader_is_waited_for(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    texts = [f"{number} {'x' * 3000}\n" for number in range(50)] + ["y" * 300_000 + "\n"]
    read = b""

    def write() -> None:
        wrote.append(Output(writer).write(texts, PATIENCE_S))

    wrote: list[str] = []
    thread = threads.Thread(write, "writer")
    thread.start()
    while len(read) < sum(map(len, texts)):
        time.sleep(0.02)
        read += os.read(reader, 4096)
    thread.join(PATIENCE_S)
    assert wrote == [""]
    assert read.decode() == "".join(texts)


def test_a_descriptor_that_becomes_something_else_meanwhile_is_left_alone(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    problems = ["", "", "terminal_replaced"]
    output = Output(writer, problem=lambda: problems.pop(0))
    assert output.write([f"{number} {'x' * 4000}\n" for number in range(5)], PATIENCE_S) == "terminal_replaced"
    assert len(os.read(reader, 2**20)) == 2 * 4003


def test_without_threads_a_reader_that_waits_is_not_waited_for(pipe: tuple[int, int]) -> None:
    fill_pipe(pipe[1])
    threads.hold_back("the interpreter ends")
    try:
        assert Output(pipe[1]).write(["text\n"], AT_ONCE_S) == "terminal_blocked"
    finally:
        threads.hold_back("")


def test_one_that_others_have_made_non_blocking(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    text = "z" * 200_000 + "\n"
    arrived = bytearray()

    def read() -> None:
        while not arrived.endswith(b"\n"):
            arrived.extend(os.read(reader, 65536))

    thread = threads.Thread(read, "reader")
    thread.start()
    assert Output(writer).write([text], PATIENCE_S) == ""
    thread.join(PATIENCE_S)
    assert arrived.decode() == text
