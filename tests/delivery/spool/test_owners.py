"""Whose an entry of the spool is, and who may read it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.delivery.spool.disk import Disk, body, number
from tests.delivery.spool.test_killed import ROOT


class TestOwners:
    def test_two_processes_on_one_directory_keep_their_own(self, tmp_path: Path) -> None:
        first, second = Disk(tmp_path / "spool"), Disk(tmp_path / "spool")
        assert first.append(body(1))
        assert second.append(body(2))
        first.adopt()
        second.adopt()
        assert [*map(number, first.drain())] == [1]
        assert [*map(number, second.drain())] == [2]
        first.spool.close()
        second.spool.close()
        assert sorted(os.listdir(tmp_path / "spool" / "key")) == ["about.json", "quota.lock"]

    def test_of_many_that_adopt_at_once_each_entry_has_one(self, tmp_path: Path) -> None:
        for which in range(12):
            orphan = Disk(tmp_path / "spool")
            assert orphan.append(body(which), 1)
            orphan.die()
        program = """
import sys
from pathlib import Path
from tests.delivery.spool.disk import Disk, number
disk = Disk(Path(sys.argv[1]))
sys.stdin.readline()
while True:
    disk.adopt()
    if not disk.spool.items():
        break
    for payload in disk.drain():
        print(number(payload), flush=True)
disk.spool.close()
"""
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", program, str(tmp_path / "spool")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            for _ in range(4)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        came = [int(line) for process in processes for line in process.communicate(timeout=30)[0].split()]
        assert sorted(came) == list(range(12))

    def test_the_child_of_a_fork_leaves_its_parents_entry_locked(self, tmp_path: Path) -> None:
        disk = Disk(tmp_path / "spool")
        assert disk.append(body(1))
        child = os.fork()
        if not child:
            try:
                disk.spool.after_fork_in_child()
                other = Disk(tmp_path / "spool")
                other.adopt()
                assert not other.spool.items()
                assert other.append(body(2))
                other.spool.close()
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        third = Disk(tmp_path / "spool")
        third.adopt()
        assert [*map(number, third.drain())] == [2]
        assert [*map(number, disk.drain())] == [1]
        disk.spool.close()
        third.spool.close()

    @pytest.mark.parametrize("killed", [False, True])
    def test_a_fork_in_the_middle_of_a_write_locks_nobody_out(self, killed: bool, tmp_path: Path) -> None:
        """The child has copies of the locks, and may live for long."""
        program = """
import os, signal, sys
from pathlib import Path
from otelagent.delivery.spool.directory import quota
from tests.delivery.spool.disk import Disk, body

disk = Disk(Path(sys.argv[1]))
assert disk.append(body(0))
with disk.spool.place.opened(make=True) as key, quota(key):
    if not os.fork():
        print("forked", flush=True)
        sys.stdin.readline()
        os._exit(0)
    if sys.argv[2] == "True":
        os.kill(os.getpid(), signal.SIGKILL)
assert disk.append(body(1))
disk.spool.close()
"""
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "spool"), str(killed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert process.wait(30) == (-signal.SIGKILL if killed else 0)
        assert process.stdout is not None
        assert process.stdout.readline() == "forked\n"
        disk = Disk(tmp_path / "spool")
        assert disk.append(body(2))
        disk.adopt()
        assert [*map(number, disk.drain())] == ([0, 2] if killed else [0, 1, 2])
        disk.spool.close()
        process.communicate("end\n", timeout=30)

    def test_an_entry_whose_owner_was_killed_before_it_could_lock_it(self, tmp_path: Path) -> None:
        entry = tmp_path / "spool" / "key" / "7-00000000"
        entry.mkdir(parents=True, mode=0o700)
        disk = Disk(tmp_path / "spool")
        disk.adopt()
        assert entry.exists()
        os.utime(entry, (0, 0))
        disk.adopt()
        assert not entry.exists()

    def test_another_key_is_not_touched(self, tmp_path: Path) -> None:
        other = Disk(tmp_path / "spool", key="other")
        assert other.append(body(0))
        other.die()
        disk = Disk(tmp_path / "spool")
        disk.adopt()
        assert disk.take() is None


class TestPrivacy:
    def test_only_its_owner_reads_it_whatever_the_umask(self, tmp_path: Path) -> None:
        mask = os.umask(0)
        try:
            disk = Disk(tmp_path / "spool")
            assert disk.append(body(0))
        finally:
            os.umask(mask)
        for path in (tmp_path / "spool", *(tmp_path / "spool").rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
        disk.spool.close()

    def test_a_directory_that_was_open_to_others_is_closed(self, tmp_path: Path) -> None:
        (tmp_path / "spool").mkdir(mode=0o755)
        disk = Disk(tmp_path / "spool")
        assert disk.append(body(0))
        assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700
        disk.spool.close()

    @pytest.mark.parametrize("where", ["spool", "spool/key"])
    def test_a_symbolic_link_is_not_followed(self, where: str, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / where).parent.mkdir(exist_ok=True, mode=0o700)
        (tmp_path / where).symlink_to(tmp_path / "elsewhere")
        disk = Disk(tmp_path / "spool")
        assert not disk.append(body(0))
        disk.adopt()
        assert not os.listdir(tmp_path / "elsewhere")
        assert set(disk.failures) <= {"spool_eloop", "spool_enotdir"}

    def test_another_users_directory_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "spool").mkdir(mode=0o700)
        os.chown(tmp_path / "spool", 12345, 12345)
        disk = Disk(tmp_path / "spool")
        assert not disk.append(body(0))
        assert disk.failures == {"spool_eperm": 1}

    def test_a_planted_link_in_an_entry_is_not_read(self, tmp_path: Path) -> None:
        before = Disk(tmp_path / "spool")
        assert before.append(body(0))
        [file] = before.files()
        before.die()
        file.rename(tmp_path / "moved")
        file.symlink_to(tmp_path / "moved")
        disk = Disk(tmp_path / "spool")
        disk.adopt()
        assert disk.take() is None
