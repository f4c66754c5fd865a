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
from otelagent.delivery.delivery import spool_identity
from otelagent.delivery.spool.place import key_of
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
    config = load({"endpoint": endpoint or None, "service_name": "shop", **settings}, environ or {})
    identity = spool_identity(config, signal, static_attributes(config))
    disk = Disk(directory, key=key_of(identity))
    about = {name: value for name, value in identity.items() if not name.startswith("header ")}
    object.__setattr__(disk.spool.place, "about", about)
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
                f"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT='{path}/in;gest' {prefix} {keys[2]}",
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
    _, shown, _ = run(capsys, "list", "--endpoint=http://there:4318", "--headers=x-scope-orgid=blue,api-key=hidden")
    assert "otelagent spool replay --endpoint=http://there:4318 '--headers=...'" in typed(shown)
    assert "hidden" not in shown


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
