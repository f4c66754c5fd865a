"""``otelagent spool`` on real directories, beside living processes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from otelagent.cli.main import main
from otelagent.config import load
from otelagent.delivery.delivery import spool_at
from otelagent.delivery.spool.survey import survey
from otelagent.record.resource import static_attributes
from tests.delivery.harness import FaultServer, payload
from tests.delivery.spool.disk import Disk, body, flip


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["spool", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code, out, _ = run(capsys, words[0], "--json", *words[1:])
    return code, json.loads(out)


def spool_for(
    directory: Path, endpoint: str, signal: str = "traces", environ: dict[str, str] | None = None, **settings: str
) -> Disk:
    """A spool as an application with these settings has it."""
    on = {"exporter": "otlp", "logs_exporter": "otlp", "spool_directory": str(directory)}
    config = load({"endpoint": endpoint or None, "service_name": "shop", **on, **settings}, environ or {})
    at = spool_at(config, signal, lambda: static_attributes(config))
    assert at is not None
    place = at.open().place
    disk = Disk(directory, key=place.key)
    object.__setattr__(disk.spool.place, "about", place.about)
    return disk


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OTELAGENT_SPOOL_DIRECTORY", str(tmp_path / "spool"))
    return tmp_path / "spool"


def fill(disk: Disk, records: int = 3, items: int = 2, *, die: bool = True) -> None:
    for _ in range(records):
        assert disk.append(payload(items).body, items, disk.spool.place.about["signal"])
    if die:
        disk.die()


@pytest.mark.parametrize("command", ["list", "verify", "purge", "replay"])
def test_of_nothing(command: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, command, "--yes")
    assert code == 0
    assert "nothing waits" in out
    assert not directory.exists()


def test_list_tells_what_waits_and_whose_it_is(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(spool_for(directory, "http://there:4318"))
    living = spool_for(directory, "http://there:4318")
    fill(living, 1, 5, die=False)
    code, told = run_json(capsys, "list")
    assert code == 0
    [key] = told["keys"]
    assert key["items"] == 11
    assert key["about"]["service.name"] == "shop"
    assert key["about"]["destination"] == "http://there:4318/v1/traces"
    entries = {entry["in_use"]: entry["items"] for entry in key["entries"]}
    assert entries == {True: 5, False: 6}
    code, out, _ = run(capsys, "list")
    assert "traces of shop → http://there:4318/v1/traces" in out
    assert f"process {os.getpid()} (in use): 5 items" in out
    assert "to the same destination" in out
    assert "otelagent spool replay KEY" in out
    living.check()
    assert len([*living.drain()]) == 1
    living.spool.close()


def test_verify_finds_what_is_damaged_and_changes_nothing(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = spool_for(directory, "http://there:4318")
    for which in range(5):
        assert disk.append(body(which), which)
    disk.die()
    [file] = disk.files()
    code, out, _ = run(capsys, "verify")
    assert code == 0
    assert "5 records with 10 items; all is well" in out
    flip(file, (80 + 40 + 20) * 8)
    flip(file, (file.stat().st_size - 60) * 8)
    content = file.read_bytes()
    code, told = run_json(capsys, "verify")
    assert code == 1
    [key] = told["keys"]
    assert (key["records"], key["items"], key["damaged_items"]) == (3, 6, 4)
    assert file.read_bytes() == content


def test_purge_removes_what_dead_processes_left_and_nothing_else(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(spool_for(directory, "http://there:4318"))
    living = spool_for(directory, "http://there:4318")
    fill(living, 1, 5, die=False)
    code, _, err = run(capsys, "purge")
    assert code == 2
    assert "--yes" in err
    code, told = run_json(capsys, "purge", "--older-than", "1", "--yes")
    assert told["keys"][0]["items"] == 0
    code, told = run_json(capsys, "purge", "--yes")
    assert code == 0
    assert (told["keys"][0]["items"], told["keys"][0]["in_use_items"]) == (6, 5)
    assert len(living.files()) == 1
    assert len([*living.drain()]) == 1
    living.spool.close()


def test_replay_sends_what_was_for_this_destination(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FaultServer("http", {"status": 200}) as server:
        endpoint = f"http://127.0.0.1:{server.port}"
        for _ in range(3):
            fill(spool_for(directory, endpoint))
        fill(spool_for(directory, endpoint, service_name="other"))
        fill(spool_for(directory, "http://there:4318"))
        fill(spool_for(directory, endpoint, headers="x-scope-orgid=blue"))
        code, told = run_json(capsys, "replay", "--endpoint", endpoint)
        requests = server.stop()
    assert code == 0
    assert sorted(key["delivered"] for key in told["keys"]) == [6, 18]
    assert len(requests) == 12
    code, told = run_json(capsys, "list")
    assert sorted(key["items"] for key in told["keys"]) == [0, 0, 6, 6]


def test_replay_of_a_key_goes_where_it_is_told(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost_place = spool_for(directory, "http://gone:4318")
    fill(lost_place)
    with FaultServer("http", {"status": 200}, {"status": 400}) as server:
        endpoint = f"http://127.0.0.1:{server.port}"
        code, told = run_json(capsys, "replay", "--endpoint", endpoint, lost_place.spool.place.key)
    assert code == 1
    [key] = told["keys"]
    assert (key["delivered"], key["lost"], key["left"]) == (2, 4, 0)


def typed(shown: str) -> list[str]:
    """The commands that are shown, as they are typed."""
    return [line.strip() for line in shown.splitlines() if "otelagent spool replay" in line and line.startswith("  ")]


def test_list_shows_the_commands_that_send_what_waits(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        FaultServer("http", {"status": 200}) as other,
        FaultServer("http", {"status": 200}) as odd,
        FaultServer("grpc", {"status": 200}) as rpc,
    ):
        there, path, grpc = (f"http://127.0.0.1:{one.port}" for one in (other, odd, rpc))
        traces = spool_for(directory, there)
        logs = spool_for(directory, there, signal="logs")
        odd_path = spool_for(directory, "", environ={"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{path}/in;gest"})
        by_grpc = spool_for(directory, grpc, protocol="grpc")
        for disk in (traces, logs, odd_path, by_grpc):
            fill(disk)
        _, shown, _ = run(capsys, "list", f"--spool-directory={directory}")
        commands = typed(shown)
        prefix = f"otelagent spool replay --spool-directory={directory}"
        keys = [disk.spool.place.key for disk in (traces, logs, odd_path, by_grpc)]
        assert sorted(commands) == sorted(
            [
                f"{prefix} --endpoint={there} {' '.join(sorted(keys[:2]))}",
                f"{prefix} '--endpoint={path}/in;gest' {keys[2]}",
                f"{prefix} --endpoint={grpc} --protocol=grpc {keys[3]}",
            ]
        )
        _, nothing, _ = run(capsys, "replay", f"--spool-directory={directory}")
        assert nothing.startswith("nothing waits for what is configured\n")
        assert typed(nothing) == commands
        environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL")}
        environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environ["PATH"]
        for command in commands:
            subprocess.run(["sh", "-c", command], env=environ, stdout=subprocess.DEVNULL, timeout=60, check=True)
        assert [len(server.stop()) for server in (other, odd, rpc)] == [6, 3, 3]
    _, told = run_json(capsys, "list")
    assert [key["items"] for key in told["keys"]] == [0] * 4
    _, shown, _ = run(capsys, "list")
    assert typed(shown) == []


def test_what_is_configured_needs_no_key_and_a_tenant_its_headers(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(spool_for(directory, "http://there:4318"))
    tenant = spool_for(directory, "http://there:4318", headers="x-scope-orgid=blue")
    fill(tenant)
    _, shown, _ = run(capsys, "list", "--endpoint=http://there:4318", "--bearer-token-file=/token")
    assert typed(shown) == [
        "otelagent spool replay --endpoint=http://there:4318 --bearer-token-file=/token",
        f"otelagent spool replay --endpoint=http://there:4318 '--headers=...' {tenant.spool.place.key}",
    ]
    assert typed(shown.partition("Fill in first")[2]) == typed(shown)[1:]
    _, shown, _ = run(capsys, "list", "--endpoint=http://there:4318", "--headers=x-scope-orgid=blue,api-key=hidden")
    assert "otelagent spool replay --endpoint=http://there:4318 '--headers=...'" in typed(shown)
    assert "hidden" not in shown


SHOP = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer NEWSECRET"}


def shell(command: str, directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a command does that is typed where these variables are set."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL")}
    environ |= {"OTELAGENT_SPOOL_DIRECTORY": str(directory), **variables}
    environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environ["PATH"]
    return subprocess.run(["sh", "-c", command], env=environ, text=True, capture_output=True, timeout=120, check=False)


def takes(authorization: str) -> dict[str, object]:
    """What a server does that wants these credentials."""
    return {"accepts": [authorization], "status": 200, "otherwise": {"status": 401}}


def waits(directory: Path) -> int:
    return sum(one.left_items for one in survey(str(directory)))


@pytest.mark.parametrize("kind", ["headers", "token", "logs"])
@pytest.mark.parametrize("own", [True, False], ids=["usual path", "odd path"])
def test_credentials_go_to_no_other_server(own: bool, kind: str, directory: Path, tmp_path: Path) -> None:
    signal = "logs" if kind == "logs" else "traces"
    (tmp_path / "token").write_text("NEWSECRET")
    credentials = {
        "headers": SHOP,
        "token": {"OTELAGENT_BEARER_TOKEN_FILE": str(tmp_path / "token")},
        "logs": {"OTEL_EXPORTER_OTLP_LOGS_HEADERS": "api-key=NEWSECRET"},
    }[kind]
    with FaultServer("http", takes("Bearer old")) as old, FaultServer("http", {}) as new:
        there = f"http://127.0.0.1:{old.port}"
        variable = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
        odd = {variable: f"{there}/ingest"}
        fill(spool_for(directory, there if own else "", signal, {} if own else odd, headers="authorization=Bearer old"))
        here = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{new.port}"}

        [ready] = typed(shell("otelagent spool list", directory, **here).stdout)
        assert "..." not in ready
        [blank] = typed(shell("otelagent spool list", directory, **here, **credentials).stdout.partition("Fill in")[2])

        listed = shell(f"otelagent spool list --endpoint={there}", directory, **here, **credentials).stdout
        [configured] = typed(listed.partition("Fill in")[2])
        assert typed(listed) == [configured]

        for command in (ready, blank, configured, configured.replace("'--headers=...'", "")):
            refused = shell(command, directory, **here, **credentials)
            assert (refused.returncode, refused.stdout) == (2, "")
            said = "filled in" if "..." in command else f"{next(iter(credentials))}: not for the server"
            assert said in refused.stderr
        assert old.requests == []

        tried = shell(blank.replace("...", ""), directory, **here, **credentials)
        assert tried.returncode == 1
        assert "refuses the credentials (http_401)" in tried.stdout
        assert waits(directory) == 6

        sent = shell(blank.replace("...", "authorization=Bearer%20old"), directory, **here, **credentials)
        assert sent.returncode == 0, sent
        requests, others = old.stop(), new.stop()
    assert waits(directory) == 0
    assert others == []
    assert "NEWSECRET" not in json.dumps(requests)
    assert [request["headers"].get("authorization") for request in requests] == [None] + ["Bearer old"] * 3
    assert {request["path"] for request in requests} == {f"/v1/{signal}" if own else "/ingest"}


def test_credentials_go_to_the_server_they_are_for(directory: Path) -> None:
    with FaultServer("http", takes("Bearer NEWSECRET")) as server:
        there = f"http://127.0.0.1:{server.port}"
        fill(spool_for(directory, there, headers="x-scope-orgid=blue"))
        fill(spool_for(directory, f"{there}/b"))
        here = {"OTEL_EXPORTER_OTLP_ENDPOINT": there, **SHOP}
        shown = shell("otelagent spool list", directory, **here).stdout
        [ready] = [command for command in typed(shown) if "..." not in command]
        assert shell(ready, directory, **here).returncode == 0
        requests = server.stop()
    assert waits(directory) == 6
    assert {request["path"] for request in requests} == {"/b/v1/traces"}


@pytest.mark.parametrize(
    ("inside", "path", "filled", "arrives"),
    [
        ("", "/b?api_key=SECRET", "api_key=SECRET", "/b/v1/traces?api_key=SECRET"),
        ("me:SECRET@", "/b", "me:SECRET", "/b/v1/traces"),
    ],
    ids=["query", "user and password"],
)
@pytest.mark.parametrize("whole", [False, True], ids=["usual path", "odd path"])
def test_what_an_address_hides_has_to_be_filled_in(
    inside: str, path: str, filled: str, arrives: str, whole: bool, directory: Path
) -> None:
    with FaultServer("http", {"status": 200}) as server:
        address = f"http://{inside}127.0.0.1:{server.port}{path}"
        odd = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": address}
        fill(spool_for(directory, "" if whole else address, environ=odd if whole else {}))
        shown = shell("otelagent spool list", directory).stdout
        assert "SECRET" not in shown
        [command] = typed(shown.partition("Fill in first")[2])
        assert typed(shown) == [command]
        for blank in ("...", "***"):
            refused = shell(command.replace("...", blank), directory)
            assert (refused.returncode, refused.stdout) == (2, "")
            assert "--endpoint: what stands there as ... has to be filled in first" in refused.stderr
        assert server.requests == []
        assert shell(command.replace("...", filled), directory).returncode == 0
        requests = server.stop()
    assert waits(directory) == 0
    assert {request["path"] for request in requests} == {path if whole else arrives}
    assert {"authorization" in request["headers"] for request in requests} == {bool(inside)}


@pytest.mark.parametrize(
    "option",
    [
        "--headers=...",
        "--headers=x-scope-orgid=blue,authorization=...",
        "--headers=a=***, b=c",
        "--logs-headers=...",
        "--endpoint=...",
        "--endpoint=http://...:secret@there",
        "--endpoint=http://me:...@there",
        "--endpoint=http://there/?key=...&other=1",
        "--logs-endpoint=http://there/?...",
        "--oauth2-client-secret=***",
        "--oauth2-token-url=https://***@there/token",
    ],
)
def test_what_isnt_filled_in_is_refused(option: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "replay", option)
    assert (code, out) == (2, "")
    assert f"{option.partition('=')[0]}: what stands there as ..." in err


@pytest.mark.parametrize(
    ("server", "script", "reason"),
    [
        ("http", {"status": 401}, "http_401"),
        ("http", {"status": 403}, "http_403"),
        ("grpc", {"code": "UNAUTHENTICATED"}, "grpc_unauthenticated"),
        ("grpc", {"code": "PERMISSION_DENIED"}, "grpc_permission_denied"),
    ],
)
def test_what_is_refused_for_the_credentials_stays(
    server: str, script: dict[str, object], reason: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    protocol = "--protocol=" + ("grpc" if server == "grpc" else "http/protobuf")
    with FaultServer(server, {"status": 200} if server == "http" else {}, script) as refusing:
        endpoint = f"http://127.0.0.1:{refusing.port}"
        fill(spool_for(directory, endpoint, protocol=protocol.partition("=")[2]))
        code, told = run_json(capsys, "replay", f"--endpoint={endpoint}", protocol)
        requests = refusing.stop()
    assert code == 1
    [key] = told["keys"]
    assert (key["delivered"], key["lost"], key["left"], key["refused"]) == (2, 0, 4, reason)
    assert len(requests) == 2
    assert waits(directory) == 4


def test_replay_to_a_dead_collector_leaves_everything(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otelagent.cli.spool._PATIENCE_S", 0.5)
    fill(spool_for(directory, "http://127.0.0.1:1"))
    code, told = run_json(capsys, "replay", "--endpoint", "http://127.0.0.1:1")
    assert code == 1
    assert (told["keys"][0]["delivered"], told["keys"][0]["left"]) == (0, 6)
    code, told = run_json(capsys, "list")
    assert told["keys"][0]["items"] == 6


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["lost"],
        ["list", "--sppol"],
        ["purge", "--older-than", "soon"],
        ["list", "0123456789abcdef"],
        ["verify", "../x"],
    ],
)
def test_a_wrong_command_line_is_told(words: list[str], directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert "otelagent spool --help" in err


@pytest.mark.parametrize("words", [["--help"], ["spool", "--help"], ["spool", "list", "--help"], ["--version"]])
def test_help_and_version(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert "otelagent" in capsys.readouterr().out


def test_a_terminal_sees_a_bar(directory: Path) -> None:
    fill(spool_for(directory, "http://there:4318"), 100, 10)
    mine, its = pty.openpty()
    done = subprocess.run(
        [Path(sys.executable).with_name("otelagent"), "spool", "verify"],
        stdout=subprocess.PIPE,
        stderr=its,
        text=True,
        timeout=60,
        check=True,
    )
    os.close(its)
    shown = os.read(mine, 100_000).decode()
    os.close(mine)
    assert "verify [██████████" in shown
    assert "1,000 items; all is well" in done.stdout
