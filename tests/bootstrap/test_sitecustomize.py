"""What an interpreter does with otelagent's ``sitecustomize`` in front: what it did without, and traced."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bootstrap.workbench import START_LINE, Workbench

SHOW_PATH = "import sys; print(sys.path)"


@pytest.mark.parametrize("pythonpath", ["", ":", "{0}:", ":{0}", "{0}", "{0}:{0}/x"])
def test_the_path_is_what_it_was(bench: Workbench, pythonpath: str) -> None:
    # The package of this test is on PYTHONPATH as well; an entry that is empty there is the working directory.
    path = pythonpath.format(bench.directory)
    path = f"{path}{os.pathsep}{bench.packages}" if path else str(bench.packages)
    plain, traced = bench.both(sys.executable, "-c", SHOW_PATH, PYTHONPATH=path)
    assert traced.stdout == plain.stdout
    assert traced.own_lines == [START_LINE]
    assert traced.events == [["init", "exit"]]


def test_children_are_traced_and_only_the_first_process_speaks(bench: Workbench) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1)'], check=True)"
    outcome = bench.run("sh", "-c", f'{sys.executable} -c "{code}"')
    assert outcome.own_lines == [START_LINE]
    assert outcome.events == [["init", "exit"]] * 2


def test_quiet_children_of_a_program_that_rewrites_its_environment_are_traced(bench: Workbench) -> None:
    bench.write("child.py", "print('child')")
    bench.write("app.py", "import os, sys; os.execv(sys.executable, [sys.executable, 'child.py'])")
    outcome = bench.run(sys.executable, "app.py")
    assert outcome.stdout == "child\n"
    assert list(outcome.journal.values()) == [["init", "init", "exit"]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sitecustomize.py", "print('theirs as', __name__)"),
        ("sitecustomize/__init__.py", "print('theirs as', __name__, __path__ is not None)"),
        ("sitecustomize.py", "raise RuntimeError('theirs')"),
        ("sitecustomize.py", "import not_there"),
        ("sitecustomize.py", "raise ImportError('theirs', name='sitecustomize')"),
        ("sitecustomize.py", "raise SystemExit(5)"),
        ("sitecustomize.py", "import sys; sys.modules[__name__] = sys"),
        ("usercustomize.py", "print('user')"),
        ("none.py", ""),
    ],
)
def test_another_sitecustomize_runs_as_if_alone(bench: Workbench, name: str, text: str) -> None:
    bench.write(f"site/{name}", text)
    path = f"{bench.directory / 'site'}{os.pathsep}{bench.packages}"
    code = "import sys; print('sitecustomize' in sys.modules); import sitecustomize; print(sitecustomize.__name__)"
    plain = bench.run(sys.executable, "-c", code, options=None, PYTHONPATH=path)
    # Not by otelagent-run: it is a Python process as well, and theirs would run in it first.
    path = bench.bootstrap + os.pathsep + path
    traced = bench.run(sys.executable, "-c", code, options=None, PYTHONPATH=path)
    assert traced.own_lines == [START_LINE]
    assert (traced.returncode, traced.stdout) == (plain.returncode, plain.stdout)
    assert _without_frames(traced.stderr) == _without_frames(plain.stderr)


def _without_frames(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if not line.startswith(("  ", START_LINE))]


def test_every_way_to_run_python(bench: Workbench) -> None:
    bench.write("pkg/__init__.py", "")
    bench.write("pkg/__main__.py", "print('module')")
    bench.write("app.py", "print('script')")
    console = bench.write("console", f"#!{sys.executable}\nprint('console')\n")
    console.chmod(0o755)
    shell = bench.write("start.sh", f"#!/bin/sh\n{sys.executable} app.py\n")
    shell.chmod(0o755)
    python = sys.executable
    for command, stdin, said in [
        ([python, "app.py"], "", "script\n"),
        ([python, "-m", "pkg"], "", "module\n"),
        ([python, "-c", "print('code')"], "", "code\n"),
        ([python, "-"], "print('stdin')", "stdin\n"),
        ([python], "print('stdin')", "stdin\n"),
        (["./console"], "", "console\n"),
        (["./start.sh"], "", "script\n"),
        (["python", "app.py"], "", "script\n"),
    ]:
        outcome = bench.run(*command, stdin=stdin)
        assert (outcome.returncode, outcome.stdout) == (0, said), command
        assert outcome.own_lines == [START_LINE], command
        assert outcome.events == [["init", "exit"]], command


@pytest.mark.parametrize(
    ("failure", "line"),
    [
        (
            "config",
            "otelagent: sampler = 'x' (from OTEL_TRACES_SAMPLER): must be one of the samplers; "
            "the application runs without telemetry",
        ),
        ("raise", "otelagent: failed to start (RuntimeError: several lines); the application runs untraced"),
        ("exit", "otelagent: failed to start (SystemExit: an extension wants out); the application runs untraced"),
    ],
)
def test_an_agent_that_fails_is_one_line(bench: Workbench, failure: str, line: str) -> None:
    code = (
        "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', 'import sys; sys.exit(3)']).returncode)"
    )
    outcome = bench.run(sys.executable, "-c", code, INIT_FAILS=failure)
    assert outcome.returncode == 3
    assert outcome.stderr == line + "\n"  # the child has the same trouble and says nothing new
    quiet = bench.run(sys.executable, "-c", code, options=["--quiet"], INIT_FAILS=failure)
    assert (quiet.returncode, quiet.stderr) == (3, "")


def test_an_interpreter_without_otelagent(bench: Workbench) -> None:
    environment = bench.directory / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    other = str(environment / "bin" / "python")
    outcome = bench.run(other, "-c", SHOW_PATH, PYTHONPATH=bench.bootstrap, options=None)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert outcome.own_lines == [
        f"otelagent: not installed for this interpreter; {other} (Python {version}) runs untraced; install it there"
    ]
    launched = bench.run(other, "-c", SHOW_PATH, PYTHONPATH="")
    assert launched.own_lines == [f"{outcome.own_lines[0]}, or run the application with {sys.executable}, which has it"]
    assert outcome.returncode == 0
    assert outcome.stdout == bench.run(other, "-c", SHOW_PATH, PYTHONPATH="", options=None).stdout
    quiet = bench.run(other, "-c", SHOW_PATH, PYTHONPATH=bench.bootstrap, OTELAGENT_QUIET="1", options=None)
    assert quiet.stderr == ""


def test_an_interpreter_too_old(bench: Workbench) -> None:
    path = f"{bench.bootstrap}/sitecustomize.py"
    script = bench.write(
        "old.py", f"import sys; sys.version_info = (2, 7); __file__ = {path!r}; exec(open({path!r}).read())"
    )
    outcome = bench.run(sys.executable, str(script), options=None)
    assert outcome.own_lines == [f"otelagent: needs Python 3.10 or newer; {sys.executable} (Python 2.7) runs untraced"]


def test_the_grammar_is_that_of_any_python(bench: Workbench) -> None:
    source = (Path(bench.bootstrap) / "sitecustomize.py").read_text()
    assert source.isascii()
    tree = ast.parse(source)
    newer = (ast.AnnAssign, ast.JoinedStr, ast.NamedExpr, ast.Match, ast.AsyncFunctionDef, ast.Nonlocal, ast.YieldFrom)
    assert [node for node in ast.walk(tree) if isinstance(node, newer)] == []
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        assert function.returns is None
        assert [argument for argument in function.args.args if argument.annotation] == []


def test_a_closed_stderr_is_no_trouble(bench: Workbench) -> None:
    outcome = bench.run("sh", "-c", f"{sys.executable} -c 'print(1)' 2>&-")
    assert (outcome.returncode, outcome.stdout) == (0, "1\n")


def test_installers_and_their_children_are_left_alone(bench: Workbench) -> None:
    bench.write("pip/__init__.py", "")
    bench.write(
        "pip/__main__.py", "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1)'], check=True)"
    )
    outcome = bench.run(sys.executable, "-m", "pip")
    assert (outcome.stdout, outcome.stderr, outcome.journal) == ("1\n", "", {})


def test_nothing_else_becomes_importable(bench: Workbench) -> None:
    assert [entry.name for entry in Path(bench.bootstrap).iterdir() if entry.name != "__pycache__"] == [
        "sitecustomize.py"
    ]


def test_a_process_that_is_left_alone_imports_next_to_nothing(bench: Workbench) -> None:
    bench.write("package/__init__.py", "")
    bench.write("package/resource_tracker.py", "import sys; main = None; print(*sys.modules)")
    plain, traced = bench.both(sys.executable, "-c", "from package.resource_tracker import main")
    assert (traced.stderr, traced.journal) == ("", {})
    assert set(traced.stdout.split()) - set(plain.stdout.split()) == {
        "__future__",
        "otelagent",
        "otelagent.bootstrap",
        "otelagent.bootstrap.interpreter",
        "otelagent.bootstrap.start",
    }
