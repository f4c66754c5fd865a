"""Entry points are found as `importlib.metadata` finds them, without the cost."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from otelagent.patching.entry_points import find

GROUPS = ("otelagent_instrumentation", "opentelemetry_instrumentor", "console_scripts", "pytest11", "no_such_group")


@pytest.mark.parametrize("group", GROUPS)
def test_the_real_environment(group: str) -> None:
    theirs = {
        (entry.name, entry.value.split("[")[0].strip(), entry.dist.version if entry.dist else "")
        for entry in importlib.metadata.entry_points(group=group)
    }
    assert {(found.name, found.value, found.version) for found in find([group])} == theirs


def write(directory: Path, name: str, entry_points: str, metadata: str = "") -> None:
    info = directory / name
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_text(entry_points)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: x\nVersion: 1\n{metadata}\n\nRequires-Dist: body\n")


def names(*directories: Path | str) -> list[tuple[str, str, str, str]]:
    return [(f.name, f.value, f.distribution, f.version) for f in find(["g"], map(str, directories))]


def test_a_distribution_found_twice_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "a", "My_Dist-1.0.dist-info", "[g]\nx = first:X\n")
    write(tmp_path / "b", "my_dist-2.0.dist-info", "[g]\nx = second:X\n")
    write(tmp_path / "b", "my.dist-3.0.dist-info", "[g]\nx = third:X\n")
    assert names(tmp_path / "a", tmp_path / "b") == [("x", "first:X", "My-Dist", "1.0")]


def test_what_the_file_may_look_like(tmp_path: Path) -> None:
    text = "# [g]\n[other]\na = other:A\n\n[g]\n# comment = no:No\n; = no:No\n"
    text += " a.b =  m.n:O.p [extra]\n\nc=m\nno value\n[z]\nd = z:D"
    write(tmp_path, "dist-1.dist-info", text)
    assert names(tmp_path) == [("a.b", "m.n:O.p", "dist", "1"), ("c", "m", "dist", "1")]


def test_an_egg(tmp_path: Path) -> None:
    """What `setup.py develop` leaves beside a project's sources."""
    write(tmp_path, "old_project.egg-info", "[g]\nx = old:X\n")
    assert [(f.name, f.value, f.distribution) for f in find(["g"], [str(tmp_path)])] == [("x", "old:X", "old-project")]


def test_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "empty-1.dist-info").mkdir()
    (tmp_path / "file-1.dist-info").write_text("")
    (tmp_path / "latin-1.dist-info").mkdir()
    (tmp_path / "latin-1.dist-info" / "entry_points.txt").write_bytes(b"[g]\nx = \xe9:X\n")
    (tmp_path / "archive.zip").write_text("")
    assert [name for name, *_ in names(tmp_path, tmp_path / "missing", tmp_path / "archive.zip")] == ["x"]


def test_the_empty_path_is_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "dist-1.dist-info", "[g]\nx = m:X\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [""])
    assert [found.name for found in find(["g"])] == ["x"]


def test_what_a_contrib_instrumentor_instruments(tmp_path: Path) -> None:
    write(
        tmp_path,
        "contrib-1.dist-info",
        "[g]\nx = m:X\n",
        "Requires-Dist: opentelemetry-api~=1.12\n"
        "Requires-Dist: kafka-python<3.0,>=2.0; extra == 'instruments-any'\n"
        'Requires-Dist: psycopg2-binary >= 2.7 ; extra == "instruments"\n'
        "Requires-Dist: pytest; extra == 'test'",
    )
    [found] = find(["g"], [str(tmp_path)])
    assert found.instruments() == ["kafka-python", "psycopg2-binary"]
