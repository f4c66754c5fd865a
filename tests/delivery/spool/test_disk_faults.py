"""Disks that fill up, fail, are read-only or go away, bits that flip, and the cap."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelagent.delivery.spool import spool as spool_module
from otelagent.delivery.spool.directory import quota
from otelagent.delivery.spool.frame import HEADER_SIZE
from otelagent.delivery.spool.spool import Spool, SpoolLimits
from tests.delivery.spool.disk import Disk, body, flip, number
from tests.delivery.spool.faults import preload
from tests.delivery.spool.test_killed import ROOT


@pytest.fixture
def small_filesystem(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte. Where none can be mounted, the test fails: it is not skipped."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)], check=True)
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


@pytest.mark.parametrize("keep_free", [0.0, 0.05])
def test_a_file_system_that_fills_up_and_has_space_again(
    small_filesystem: Path, keep_free: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_KEEP_FREE_SHARE", keep_free)
    disk = Disk(small_filesystem / "spool", SpoolLimits(max_bytes=64 * 1024 * 1024))
    stored = 0
    while disk.append(body(stored, 50_000), 3):
        stored += 1
    assert 10 < stored < 22
    assert disk.failures == {"spool_enospc": 1}
    assert disk.spool.problem
    # It is left alone for some seconds.
    assert not disk.append(body(stored), 3)
    assert disk.failures == {"spool_enospc": 1}
    disk.retry()
    assert not disk.append(body(stored, 100_000), 3)
    # What is on it can be read and, once that has made room, written again.
    first = disk.take()
    assert first is not None
    assert number(first) == 0
    assert [number(payload) for payload in disk.drain()] == list(range(1, stored))
    disk.retry()
    assert disk.append(body(stored), 3)
    assert disk.recoveries == 1
    assert disk.spool.problem == ""
    assert [number(payload) for payload in disk.drain()] == [stored]
    disk.spool.close()


def test_what_others_fill_a_disk_with_is_not_our_doing(small_filesystem: Path) -> None:
    disk = Disk(small_filesystem / "spool")
    (small_filesystem / "other").write_bytes(bytes(1000 * 1024))
    assert not disk.append(body(0))
    (small_filesystem / "other").unlink()
    disk.retry()
    assert disk.append(body(0))
    assert [*map(number, disk.drain())] == [0]
    disk.spool.close()


def run_writer(directory: Path, appends: int, **environ: str) -> tuple[list[str], dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.delivery.spool.writer", str(directory), "0", str(appends), "0.5", "2000"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, **environ},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert last.startswith("B ")
    return lines, json.loads(last[2:])


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EMFILE, errno.EROFS])
@pytest.mark.parametrize(
    "call", ["pwrite", "pread", "fsync", "unlink", "rename", "mkdir", "open", "flock", "ftruncate", "fchmod", "any"]
)
@pytest.mark.parametrize("after", [0, 5])
def test_no_error_of_the_disk_is_raised_or_loses_what_is_readable(
    call: str, error: int, after: int, tmp_path: Path
) -> None:
    lines, books = run_writer(tmp_path / "spool", 60, **preload(tmp_path / "spool", call, error, after))
    assert books["balanced"]
    # It did happen (what sets a mode or a name is called once, early; what is cut is cut after a failed write).
    assert (
        books["failures"]
        or call in ("rename", "ftruncate")
        or (call in ("mkdir", "fchmod", "fsync", "unlink") and after)
    )
    acknowledged = {int(line.split()[1]) for line in lines if line.startswith("A")}
    delivered = {int(line.split()[1]) for line in lines if line.startswith("D")}
    lost = sum(int(line.split()[1]) for line in lines if line.startswith("L"))
    dropped = books["dropped"]
    assert isinstance(dropped, dict)
    assert lost == sum(count for reason, count in dropped.items() if reason != "not stored")
    assert lost == 0 or call in ("pread", "any", "open")
    # The next process, on a disk that works, finds all that the first one had on it.
    disk = Disk(tmp_path / "spool")
    disk.adopt()
    assert disk.spool.items() >= 0
    delivered |= set(map(number, disk.drain()))
    if lost == 0:
        assert not acknowledged - delivered
    disk.check()
    assert not disk.failures
    disk.spool.close()


def test_a_disk_that_fails_for_a_while(tmp_path: Path) -> None:
    """EIO of a sync seals the segment; what was written is still there."""
    disk = Disk(tmp_path / "spool")
    assert disk.append(body(0))
    with pytest.MonkeyPatch.context() as patched:

        def fail(descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patched.setattr(os, "fdatasync", fail)
        disk.spool.sync()
    assert disk.failures["spool_eio"] >= 1
    assert disk.append(body(1))
    assert len(disk.files()) == 2
    assert [*map(number, disk.drain())] == [0, 1]
    disk.spool.close()


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """As root reads and writes everything, a real read-only file system."""
    mounted = tmp_path / "readonly"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(mounted)], check=True)
    try:
        disk = Disk(mounted / "state" / "spool")
        assert not disk.append(body(0))
        disk.adopt()
        assert disk.failures == {"spool_erofs": 1}
        disk.spool.close()
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_a_file_system_that_becomes_read_only_is_still_read(tmp_path: Path) -> None:
    mounted = tmp_path / "small"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)], check=True)
    try:
        before = Disk(mounted / "spool")
        for which in range(5):
            assert before.append(body(which))
        before.die()
        subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
        disk = Disk(mounted / "spool")
        disk.adopt()
        # A file can't be locked for good nor its cursor moved: it stays for better days, and nothing is raised.
        assert disk.take() is None
        assert disk.failures["spool_erofs"] >= 1
        disk.die()
        subprocess.run(["mount", "-o", "remount,rw", str(mounted)], check=True)
        disk = Disk(mounted / "spool")
        disk.adopt()
        assert [*map(number, disk.drain())] == [0, 1, 2, 3, 4]
        disk.spool.close()
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_a_directory_that_is_removed_under_a_living_process(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "spool")
    for which in range(3):
        assert disk.append(body(which), 2)
    shutil.rmtree(tmp_path / "spool")
    assert disk.append(body(3), 2)
    assert dict(disk.ledger.snapshot().dropped) == {"spool_missing": 6}
    assert [*map(number, disk.drain())] == [3]
    disk.spool.close()


def test_a_directory_that_is_removed_while_a_record_is_being_sent(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "spool")
    for which in range(2):
        assert disk.append(body(which), 2)
    sent = disk.spool.next()
    assert sent is not None
    shutil.rmtree(tmp_path / "spool")
    assert disk.append(body(2), 2)
    disk.spool.settle()
    disk.ledger.unspooled(sent.items)
    disk.ledger.delivered(sent.items)
    # The open file is still read, so that nothing of it is lost.
    assert [*map(number, disk.drain())] == [1, 2]
    assert not sum(disk.ledger.snapshot().dropped.values())
    disk.spool.close()


def test_an_entry_whose_file_could_not_be_removed_at_first_makes_room_for_the_next(tmp_path: Path) -> None:
    for which in range(3):
        orphan = Disk(tmp_path / "spool")
        assert orphan.append(body(which))
        orphan.die()
    disk = Disk(tmp_path / "spool")
    with pytest.MonkeyPatch.context() as patched:

        def fail(*arguments: object, **options: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        disk.adopt()
        patched.setattr(os, "unlink", fail)
        assert len([*disk.drain()]) == 2
        disk.adopt()
        assert not disk.spool.items()
    disk.adopt()
    disk.adopt()
    assert len([*disk.drain()]) == 1
    assert not disk.files()
    disk.spool.close()


def test_no_more_files_may_be_opened(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "spool")
    assert disk.append(body(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        assert not disk.append(body(1))
        disk.spool.maintain()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert disk.failures["spool_emfile"] >= 1
    disk.retry()
    assert disk.append(body(1))
    assert [*map(number, disk.drain())] == [0, 1]
    disk.spool.close()


class TestCap:
    def test_drop_oldest_makes_room_and_counts(self, tmp_path: Path) -> None:
        disk = Disk(tmp_path / "spool", SpoolLimits(max_bytes=64 * 1024))
        for which in range(100):
            assert disk.append(body(which, 2_000), 3)
            assert sum(file.stat().st_size for file in disk.files()) <= 64 * 1024
        dropped = dict(disk.ledger.snapshot().dropped)
        left = [*map(number, disk.drain())]
        assert left == list(range(100 - len(left), 100))
        assert len(left) > 20
        assert dropped == {"spool_full": 3 * (100 - len(left))}
        disk.spool.close()

    def test_what_is_being_sent_is_not_dropped(self, tmp_path: Path) -> None:
        disk = Disk(tmp_path / "spool", SpoolLimits(max_bytes=64 * 1024))
        assert disk.append(body(0, 2_000))
        assert disk.spool.next() is not None
        for which in range(1, 100):
            assert disk.append(body(which, 2_000))
        disk.spool.settle()
        disk.ledger.unspooled(1)
        disk.ledger.delivered(1)
        disk.check()
        disk.spool.close()

    def test_reject_leaves_what_is_new_with_the_caller(self, tmp_path: Path) -> None:
        disk = Disk(tmp_path / "spool", SpoolLimits(max_bytes=64 * 1024, full="reject"))
        stored = 0
        while disk.append(body(stored, 2_000), 3):
            stored += 1
        assert stored > 20
        assert not disk.failures
        assert [*map(number, disk.drain())] == list(range(stored))
        assert disk.append(body(0, 2_000), 3)
        disk.spool.close()

    def test_holds_for_all_processes_together(self, tmp_path: Path) -> None:
        limits = SpoolLimits(max_bytes=64 * 1024, full="reject")
        first, second = Disk(tmp_path / "spool", limits), Disk(tmp_path / "spool", limits)
        stored = sum(disk.append(body(which, 2_000)) for which in range(30) for disk in (first, second))
        assert 20 < stored < 32
        assert sum(file.stat().st_size for file in first.files()) <= 64 * 1024
        first.spool.close()
        second.spool.close()

    def test_another_process_that_keeps_the_quota_is_not_waited_for_without_end(self, tmp_path: Path) -> None:
        disk = Disk(tmp_path / "spool")
        with disk.spool.place.opened(make=True) as key, quota(key):
            assert not disk.append(body(0))
        assert disk.failures == {"spool_etimedout": 1}

    def test_a_payload_larger_than_the_spool(self, tmp_path: Path) -> None:
        disk = Disk(tmp_path / "spool", SpoolLimits(max_bytes=64 * 1024))
        assert not disk.append(body(0, 64 * 1024))
        assert disk.append(body(1))
        disk.spool.close()

    def test_what_is_too_old_is_given_up(self, tmp_path: Path) -> None:
        disk = Disk(tmp_path / "spool", SpoolLimits(max_age_s=100))
        now = [1000.0]
        disk.spool._now_s = lambda: now[0]
        assert disk.append(body(0), 2)
        now[0] = 1050.0
        assert disk.append(body(1), 3)
        assert len(disk.files()) == 2
        now[0] = 1101.0
        disk.spool.maintain()
        assert dict(disk.ledger.snapshot().dropped) == {"spool_expired": 2}
        # A clock that is set back expires nothing and keeps the order.
        now[0] = -3600.0
        assert disk.append(body(2))
        disk.spool.maintain()
        assert [*map(number, disk.drain())] == [1, 2]
        disk.spool.close()


class TestFlippedBits:
    def test_every_bit_of_a_segment(self, tmp_path: Path) -> None:
        """One record at most is lost, and exactly it is counted, whether the flip is found by the process that wrote
        the file or by the next."""
        items = {0: 1, 1: 10, 2: 100}
        original = Disk(tmp_path / "original")
        for which, count in items.items():
            assert original.append(body(which, 20), count)
        content = original.files()[0].read_bytes()
        name = original.files()[0].name
        original.die()
        entry = tmp_path / "spool" / "key" / "1-00000000"
        for bit in range(len(content) * 8):
            entry.mkdir(parents=True, mode=0o700)
            (entry / "lock").touch(0o600)
            (entry / name).write_bytes(content)
            flip(entry / name, bit)
            disk = Disk(tmp_path / "spool")
            disk.adopt()
            assert disk.ledger.snapshot().adopted == 111
            came = [*map(number, disk.drain())]
            assert len(came) >= 2
            assert came == sorted(came)
            lost = sum(count for which, count in items.items() if which not in came)
            assert dict(disk.ledger.snapshot().dropped) == ({"spool_corrupt": lost} if lost else {})
            # A record is only lost with its body: what is around it is there twice.
            in_body = any(
                HEADER_SIZE + 40 + start <= bit // 8 < HEADER_SIZE + 40 + start + 28 for start in (0, 108, 216)
            )
            assert bool(lost) == in_body
            disk.spool.close()
            assert not disk.files()

    def test_many_of_a_living_process(self, tmp_path: Path) -> None:
        disk = Disk(tmp_path / "spool")
        for which in range(50):
            assert disk.append(body(which, 100), which)
        [file] = disk.files()
        content = bytearray(file.read_bytes())
        content[1000:5000] = os.urandom(4000)
        content[-500:] = bytes(500)
        file.write_bytes(content)
        came = [*map(number, disk.drain())]
        assert 20 < len(came) < 35
        assert dict(disk.ledger.snapshot().dropped) == {"spool_corrupt": sum(range(50)) - sum(came)}

    def test_a_file_of_a_later_version_is_left_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("otelagent.delivery.spool.frame.VERSION", 2)
            later = Disk(tmp_path / "spool")
            assert later.append(body(0))
            later.die()
        disk = Disk(tmp_path / "spool")
        disk.adopt()
        assert disk.take() is None
        disk.spool.close()
        assert len(disk.files()) == 1


def test_nothing_is_made_before_there_is_something_to_keep(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "spool")
    disk.adopt()
    assert isinstance(disk.spool, Spool)
    disk.spool.close()
    assert not os.listdir(tmp_path)
