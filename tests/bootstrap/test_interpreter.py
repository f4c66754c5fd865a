from __future__ import annotations

import pytest

from otelagent.bootstrap.interpreter import read_program


@pytest.mark.parametrize(
    ("line", "kind", "target", "flags"),
    [
        ("app.py --c x", "script", "app.py", ""),
        ("-m pkg.mod -c x", "module", "pkg.mod", ""),
        ("-mpkg", "module", "pkg", ""),
        ("-Im pip install", "module", "pip", "I"),
        ("-u -W error -X dev -Wignore -c print(1)", "code", "print(1)", "u"),
        ("-uWerror app.py", "script", "app.py", "u"),
        ("-EsS app.py", "script", "app.py", "EsS"),
        ("--check-hash-based-pycs always app.py", "script", "app.py", ""),
        ("-- -odd.py", "script", "-odd.py", ""),
        ("- argument", "stdin", "", ""),
        ("-i", "stdin", "", "i"),
        ("", "stdin", "", ""),
        ("-m", "module", "", ""),
        ("--", "stdin", "", ""),
    ],
)
def test_reads_what_the_interpreter_would_run(line: str, kind: str, target: str, flags: str) -> None:
    program = read_program(line.split())
    assert (program.kind, program.target, program.flags) == (kind, target, flags)


@pytest.mark.parametrize(
    "line",
    [
        "-m pip install x",
        "-m ensurepip",
        "-m venv env",
        "-m pip._internal",
        "/env/bin/pip3.11 install x",
        "/env/bin/pip list",
        "/lib/pip/__pip-runner__.py install",
    ],
)
def test_knows_installers(line: str) -> None:
    assert read_program(line.split()).is_installer


@pytest.mark.parametrize("line", ["-m pipeline", "/srv/pip_app.py", "pipx.py", "-m venvs", "-c pip", "-", "-m app.pip"])
def test_takes_nothing_else_for_an_installer(line: str) -> None:
    program = read_program(line.split())
    assert not program.is_installer
    assert not program.is_helper


def test_knows_what_runs_no_code_of_the_application() -> None:
    def helps(*words: str) -> bool:
        return read_program(words).is_helper

    assert helps("-s", "-c", "from multiprocessing.resource_tracker import main;main(4)")
    assert helps("-c", "from joblib.externals.loky.backend.resource_tracker import main; main(4, False)")
    assert helps("-m", "otelagent.cli.run", "app.py")
    assert helps("/env/bin/otelagent-run", "app.py")
    assert not helps("-c", "from multiprocessing.forkserver import main; main(3, 4, [])")
    assert not helps("-c", "from multiprocessing.spawn import spawn_main; spawn_main()", "--multiprocessing-fork")
