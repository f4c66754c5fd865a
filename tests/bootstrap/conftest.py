from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import otelagent
from tests.bootstrap.workbench import AGENT, Workbench


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("packages")
    package = directory / "otelagent"
    package.mkdir()
    for part in Path(otelagent.__file__).parent.iterdir():
        if part.name not in ("lifecycle.py", "__init__.py", "__pycache__"):
            (package / part.name).symlink_to(part)
    (package / "__init__.py").write_text("")
    (package / "lifecycle.py").write_text(AGENT)
    return directory


@pytest.fixture
def bench(tmp_path: Path, packages: Path) -> Iterator[Workbench]:
    workbench = Workbench(tmp_path, packages)
    yield workbench
    workbench.close()
