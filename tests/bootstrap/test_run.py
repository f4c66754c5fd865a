"""``otelagent-run``'s own part: options, what the command finds, and what can keep it from starting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from otelagent.bootstrap.start import DIRECTORY, with_bootstrap
from otelagent.cli.options import UsageError, read_command_line
from otelagent.cli.usage import help_text
from otelagent.config import SETTINGS
from tests.bootstrap.workbench import START_LINE, Workbench

SHOW = "import os; print(sorted((k, v) for k, v in os.environ.items() if k.startswith('OTELAGENT')))"


def test_options_end_where_the_command_begins() -> None:
    line = read_command_line(["--service-name", "shop", "--quiet", "python", "app.py", "--service-name", "x"])
    assert line.values == {"service_name": "shop", "quiet": "true"}
    assert line.command == ["python", "app.py", "--service-name", "x"]


@pytest.mark.parametrize(
    ("words", "values", "command"),
    [
        (["--service-name=a=b", "x"], {"service_name": "a=b"}, ["x"]),
        (["--service-name=", "x"], {"service_name": ""}, ["x"]),
        (["--service-name", "-a", "x"], {"service_name": "-a"}, ["x"]),
        (["--no-quiet", "x"], {"quiet": "false"}, ["x"]),
        (["--quiet=no", "x"], {"quiet": "no"}, ["x"]),
        (["--quiet", "--no-quiet", "x"], {"quiet": "false"}, ["x"]),
        (["--", "--quiet"], {}, ["--quiet"]),
        (["--quiet", "--", "x", "--", "y"], {"quiet": "true"}, ["x", "--", "y"]),
        (["x", "--help"], {}, ["x", "--help"]),
        (["-"], {}, ["-"]),
        ([], {}, []),
    ],
)
def test_options(words: list[str], values: dict[str, str], command: list[str]) -> None:
    line = read_command_line(words)
    assert (line.values, line.command, line.show) == (values, command, None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--servce-name", "a"], "unknown option --servce-name; did you mean --service-name?"),
        (["--service_name", "a"], "unknown option --service_name; did you mean --service-name?"),
        (["--zzz"], "unknown option --zzz; see otelagent-run --help"),
        (["-x"], "unknown option -x; see otelagent-run --help"),
        (["--service-name"], "--service-name needs a value: --service-name=…"),
        (["--service-name", "--quiet", "x"], "--service-name needs a value: --service-name=…"),
        (["--no-quiet=1"], "--no-quiet takes no value"),
        (["--no-service-name", "x"], "unknown option --no-service-name; did you mean --service-name?"),
    ],
)
def test_wrong_options_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_command_line(words)
    assert str(caught.value) == message


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: str(setting.name))
def test_every_setting_is_an_option_and_in_the_help(setting: object) -> None:
    option, variable = setting.option, setting.variable  # type: ignore[attr-defined]
    assert read_command_line([f"{option}=1"]).values
    assert f"  {option}" in help_text()
    assert variable in help_text()


def test_the_help_fits_a_terminal() -> None:
    assert [line for line in help_text().splitlines() if len(line) > 127] == []


def test_the_help_is_plain_text() -> None:
    assert "see docs/terminal.md. One of: off" in " ".join(help_text().split())
    assert "](" not in help_text()


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_and_version(bench: Workbench, option: str) -> None:
    shown = bench.run(option, options=[])
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("usage: otelagent-run [options] command")
    version = bench.run("--version", options=[])
    assert (version.returncode, version.stdout) == (0, "otelagent 0.1.0\n")


def test_no_command_is_a_mistake(bench: Workbench) -> None:
    outcome = bench.run(options=["--quiet"])
    assert outcome.returncode == 2
    assert "usage: otelagent-run [options] command" in outcome.stderr


def test_options_reach_the_command_as_variables(bench: Workbench) -> None:
    options = ["--service-name", "shop", "--no-contrib"]
    outcome = bench.run(sys.executable, "-c", SHOW, options=options, OTELAGENT_SERVICE_NAME="other")
    assert eval(outcome.stdout) == [
        ("OTELAGENT_CONTRIB", "false"),
        ("OTELAGENT_INTERNAL_ANNOUNCED", "1"),
        ("OTELAGENT_INTERNAL_OPTIONS", "contrib,service_name"),
        ("OTELAGENT_INTERNAL_PYTHON", sys.executable),
        ("OTELAGENT_SERVICE_NAME", "shop"),
    ]


@pytest.mark.parametrize(
    ("options", "given", "found"),
    [
        (["--service-name=shop"], {}, "shop"),
        (["--service-name=shop"], {"OTEL_SERVICE_NAME": "other", "OTELAGENT_SERVICE_NAME": "more"}, "shop"),
        (["--service-name="], {"OTEL_SERVICE_NAME": "other"}, "other"),
        ([], {"OTEL_SERVICE_NAME": "other"}, "other"),
        ([], {"OTELAGENT_SERVICE_NAME": "other"}, "None"),
    ],
)
def test_the_name_that_is_an_option_is_other_sdks_too(
    bench: Workbench, options: list[str], given: dict[str, str], found: str
) -> None:
    show = "import os; print(os.environ.get('OTEL_SERVICE_NAME'))"
    assert bench.run(sys.executable, "-c", show, options=options, **given).stdout == f"{found}\n"


def test_a_wrong_option_keeps_the_command_from_starting(bench: Workbench) -> None:
    outcome = bench.run(sys.executable, "-c", "print(1)", options=["--sampler", "sometimes"])
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith("otelagent-run: sampler = 'sometimes' (from --sampler): ")
    assert len(outcome.stderr.splitlines()) == 1


@pytest.mark.parametrize("variable", ["OTELAGENT_SAMPLER", "OTELAGENT_SERVCE_NAME"])
def test_a_wrong_variable_does_not(bench: Workbench, variable: str) -> None:
    outcome = bench.run(sys.executable, "-c", "import sys; sys.exit(3)", **{variable: "sometimes"})
    assert (outcome.returncode, outcome.journal) == (3, {})
    assert len(outcome.stderr.splitlines()) == 1
    assert outcome.stderr.rstrip().endswith("running the command without telemetry")


def test_the_command_is_the_same_process(bench: Workbench) -> None:
    process = bench.start("sh", "-c", "echo $$; ulimit -n >/dev/null; exit 7")
    outcome = bench.end(process)
    assert (outcome.returncode, outcome.stdout) == (7, f"{process.pid}\n")


def test_the_command_takes_the_signals_that_python_ignores(bench: Workbench) -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("no /proc")
    outcome = bench.run("grep", "SigIgn", "/proc/self/status")
    ignored = int(outcome.stdout.split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1))


def test_what_is_no_command(bench: Workbench) -> None:
    bench.write("app.py", "print(1)")
    bench.write("plain.sh", "echo 1").chmod(0o755)
    bench.write("orphan", "#!/not/there\n").chmod(0o755)
    for command, status, message in [
        (["not-there"], 127, "not-there: command not found"),
        (["app.py", "x"], 127, "app.py: command not found; try: otelagent-run python app.py x"),
        (["./app.py"], 126, "./app.py: cannot be executed (Permission denied); try: otelagent-run python ./app.py"),
        ([str(bench.directory)], 126, f"{bench.directory}: cannot be executed (Permission denied)"),
        (["./orphan"], 126, "./orphan: the interpreter named in its first line does not exist"),
        (["./plain.sh"], 126, "./plain.sh: cannot be executed (not a program: "),
        ([""], 126, ": cannot be executed"),
    ]:
        outcome = bench.run(*command)
        assert outcome.returncode == status, command
        assert outcome.stderr.startswith(f"otelagent-run: {message}"), command
        assert len(outcome.stderr.splitlines()) == 1


@pytest.mark.parametrize("flag", ["-I", "-E", "-S", "-uES"])
def test_isolated_interpreters_are_pointed_out(bench: Workbench, flag: str) -> None:
    outcome = bench.run(sys.executable, flag, "-c", "print(1)")
    assert (outcome.returncode, outcome.stdout, outcome.journal) == (0, "1\n", {})
    assert "runs untraced" in outcome.stderr
    quiet = bench.run(sys.executable, flag, "-c", "print(1)", options=["--quiet"])
    assert quiet.stderr == ""


def test_one_inside_another(bench: Workbench) -> None:
    inner = [sys.executable, "-m", "otelagent.cli.run", "--service-name", "inner", sys.executable, "-c", SHOW]
    outcome = bench.run(*inner, options=["--exporter", "none"])
    shown = dict(eval(outcome.stdout))
    assert shown["OTELAGENT_INTERNAL_OPTIONS"] == "exporter,service_name"
    assert (shown["OTELAGENT_SERVICE_NAME"], shown["OTELAGENT_EXPORTER"]) == ("inner", "none")
    assert outcome.own_lines == [START_LINE]
    assert outcome.events == [["init", "exit"]]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("", "{0}"),
        ("/a", "{0}:/a"),
        ("/a:", "{0}:/a:"),
        (":/a", "{0}::/a"),
        ("{0}", "{0}"),
        ("{0}:/a", "{0}:/a"),
        ("/a:{0}:/b", "{0}:/a:/b"),
        ("{0}:", "{0}:"),
    ],
)
def test_pythonpath(found: str, expected: str) -> None:
    assert with_bootstrap(found.format(DIRECTORY)) == expected.format(DIRECTORY)


def test_it_imports_no_telemetry() -> None:
    code = "import sys, otelagent.cli.run; print([m for m in sys.modules if m.partition('.')[0] in sys.argv[1:]])"
    unwanted = ["opentelemetry", "wrapt", "asyncio", "argparse", "httpx", "ssl", "subprocess", "email", "urllib"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL")}
    shown = subprocess.run(
        [sys.executable, "-c", code, *unwanted], check=True, capture_output=True, text=True, env=environ
    )
    assert shown.stdout == "[]\n"
