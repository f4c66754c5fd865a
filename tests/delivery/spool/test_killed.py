"""Processes that are really killed: every payload that the spool has acknowledged comes back, and start-up never
fails."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from tests.delivery.spool.disk import Disk, digest, number
from tests.delivery.spool.faults import preload
from tests.support import wait_until

# 200 for a release; a round takes a quarter of a second.
ROUNDS = int(os.environ.get("SPOOL_KILL_ROUNDS", "30"))
ROOT = Path(__file__).parents[3]


def start(
    directory: Path,
    first: int,
    appends: int,
    share: float,
    size: int,
    stdout: int = subprocess.PIPE,
    environ: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    arguments = [str(directory), str(first), str(appends), str(share), str(size)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.delivery.spool.writer", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **(environ or {})},
    )


def has_begun(said: Path, process: subprocess.Popen[str]) -> bool:
    """Whether a writer has adopted what was there, or ended."""
    return bool(said.read_text()) or process.poll() is not None


class Told:
    """What writers have said: which records, by number, with their items and the digest of their bytes."""

    def __init__(self) -> None:
        self.acknowledged: dict[int, tuple[int, str]] = {}
        self.delivered: dict[int, tuple[int, str]] = {}
        self.lost: list[str] = []

    def hear(self, output: str) -> None:
        for line in output.splitlines():
            kind, *words = line.split()
            if kind in ("A", "D"):
                record = self.acknowledged if kind == "A" else self.delivered
                record[int(words[0])] = (int(words[1]), words[2])
            elif kind == "L":
                self.lost.append(line)

    def hear_rest(self, directory: Path) -> None:
        """Delivers what is left on disk."""
        disk = Disk(directory)
        while True:
            disk.adopt()
            if not disk.spool.items() and not disk.files():
                break
            for payload in disk.drain():
                self.delivered[number(payload)] = (payload.items, digest(payload.body))
        assert not disk.failures
        assert not sum(disk.ledger.snapshot().dropped.values())
        disk.spool.close()
        assert not disk.files()

    def missing(self) -> list[int]:
        """Which acknowledged records have not come back as they were, to the byte."""
        return [which for which, record in self.acknowledged.items() if self.delivered.get(which) != record]


def test_at_any_moment(tmp_path: Path) -> None:
    told = Told()
    for turn in range(ROUNDS):
        said = tmp_path / "said"
        with said.open("w") as stdout:
            process = start(tmp_path / "spool", turn * 1_000_000, 1_000_000, 0.45, 20_000, stdout=stdout.fileno())
        wait_until(partial(has_begun, said, process))
        time.sleep(random.random() * 0.1)
        process.kill()
        _, errors = process.communicate(timeout=30)
        assert process.returncode == -9, errors
        output = said.read_text()
        # The last line may be cut.
        told.hear(output[: output.rfind("\n") + 1])
    told.hear_rest(tmp_path / "spool")
    assert len(told.acknowledged) > ROUNDS
    assert not told.lost
    assert not told.missing()


# Each system call that changes the disk, at its n-th time. The first of a kind are those that make directories and
# locks.
MOMENTS = [
    *(("pwrite", after) for after in (0, 1, 2, 7)),
    *(("mkdir", after) for after in (0, 1)),
    *(("open", after) for after in (0, 2, 4, 6, 9, 20)),
    *(("flock", after) for after in (0, 1, 2, 5)),
    *(("unlink", after) for after in (0, 1, 2)),
    *(("fsync", after) for after in (0, 1)),
    ("rename", 0),
    *(("fchmod", after) for after in (0, 1)),
]


@pytest.mark.parametrize(("call", "after"), MOMENTS)
def test_in_a_system_call(call: str, after: int, tmp_path: Path) -> None:
    told = Told()
    # What the second process adopts, it also removes.
    before = start(tmp_path / "spool", 0, 20, 0.2, 2_000)
    told.hear(before.communicate(timeout=30)[0])
    killed = start(tmp_path / "spool", 100, 200, 0.5, 2_000, environ=preload(tmp_path / "spool", call, 0, after))
    output, errors = killed.communicate(timeout=30)
    assert killed.returncode == -9 or (call, after) in {("rename", 0), ("mkdir", 1), ("mkdir", 0)}, errors
    told.hear(output)
    told.hear_rest(tmp_path / "spool")
    assert not told.lost
    assert len(told.acknowledged) >= 20
    assert not told.missing()
