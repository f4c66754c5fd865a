"""Versions of installed libraries, against the packages that know all of them."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from otelagent.patching.versions import installed_version, is_within

number = st.integers(0, 12).map(str)
release = st.lists(number, min_size=1, max_size=4).map(".".join)
version = st.one_of(release, st.builds("{}{}".format, release, st.sampled_from(["rc1", "a2", ".dev3", ".post1", "+x"])))
operator = st.sampled_from([">=", "<", "<=", ">", "==", "!=", "~="])
specifier = st.builds("{}{}".format, operator, st.one_of(release, st.builds("{}{}".format, release, st.just("rc1"))))


@given(version, st.lists(specifier, min_size=1, max_size=3).map(",".join))
def test_within_as_packaging_says(version: str, specifiers: str) -> None:
    try:
        expected = SpecifierSet(specifiers).contains(version, prereleases=True)
    except InvalidSpecifier:  # ~=1
        return
    assert is_within(version, specifiers) == expected


@given(release, release, release)
def test_a_plain_range_as_packaging_says(version: str, low: str, high: str) -> None:
    specifiers = f">={low}, <{high}"
    assert is_within(version, specifiers) == SpecifierSet(specifiers).contains(version)


def test_a_plain_range_needs_no_other_package() -> None:
    code = (
        "import sys\nfrom otelagent.patching.versions import installed_version, is_within\n"
        "assert is_within(installed_version('httpx'), '>=0.24,<1') and not is_within('2.0', '>=0.24,<1')\n"
        "print({'packaging', 'packaging.version'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_every_distribution_here_has_the_version_its_metadata_says() -> None:
    names = {found.metadata["Name"] for found in importlib.metadata.distributions()}
    assert len(names) > 20
    for name in names:
        assert installed_version(name) == importlib.metadata.version(name), name


def test_there_is_none() -> None:
    assert installed_version("no-such-distribution") is None


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("some_lib-1.2.3.dist-info", "1.2.3"),
        ("Some.Lib-1.2.3.dist-info", "1.2.3"),
        ("some_lib-1.2rc1.dist-info", "9"),  # only the metadata tells how it is written
        ("some_lib-1.2.egg-info", "9"),
        ("some_lib.egg-info", "9"),
        ("some_library-1.2.3.dist-info", None),
    ],
)
def test_forms_of_directories(tmp_path: Path, directory: str, expected: str | None) -> None:
    metadata = tmp_path / directory
    metadata.mkdir()
    name = "PKG-INFO" if directory.endswith(".egg-info") else "METADATA"
    (metadata / name).write_text("Metadata-Version: 2.1\nName: some-lib\nVersion: 9\n")
    assert installed_version("some-lib", [str(tmp_path / "missing"), str(tmp_path)]) == expected


def test_an_archive_may_come_first(tmp_path: Path) -> None:
    (tmp_path / "some_lib-1.dist-info").mkdir()
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("some_lib-2.dist-info/METADATA", "Metadata-Version: 2.1\nName: some-lib\nVersion: 2\n")
    assert installed_version("some-lib", [str(archive), str(tmp_path)]) == "2"
