"""Destinations that are broken, and the same after the advice was followed."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import closing
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from tests.delivery.certificates import Authority
from tests.delivery.harness import FaultServer, partial_success
from tests.doctor.certificates import sign
from tests.doctor.harness import TAKES, clean_environ, doctor
from tests.support import free_port
from tests.viewer.running import Viewer

NOBODY = "no-such-host.invalid"


def base(server: FaultServer) -> str:
    return server.endpoint.removesuffix("/v1/traces")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def files(authority: Authority) -> tuple[Path, Path]:
    """A server's certificate and key."""
    return authority.sign("collector")


def test_nothing_listens_and_then_a_collector_does() -> None:
    with FaultServer("http", TAKES) as server:
        endpoint = base(server)
        report = doctor(f"--endpoint={endpoint}", "--logs-exporter=otlp")
        assert [report.status(name) for name in ("connect", "span", "log_record", "metric")] == ["pass"] * 4, report
        assert report.code == 0
        assert [one["path"] for one in server.stop() if one["bytes"]] == ["/v1/traces", "/v1/logs", "/v1/metrics"]
    report = doctor(f"--endpoint={endpoint}", "--logs-exporter=otlp")
    assert report.code == 1
    assert [report.status(name) for name in ("connect", "span", "log_record")] == ["fail"] * 3
    assert "otelagent-run --ui" in report.said("connect")


def test_a_name_without_an_address() -> None:
    report = doctor(f"--endpoint=http://{NOBODY}:4318")
    assert report.status("dns") == "fail"
    assert NOBODY in report.said("dns")
    with FaultServer("http", TAKES) as server:
        assert doctor(f"--endpoint={base(server)}").status("dns") == "pass"


def test_loopback_of_the_other_family() -> None:
    with FaultServer("http", TAKES) as server:
        report = doctor(f"--endpoint=http://[::1]:{server.port}")
        assert report.status("loopback") == "fail"
        assert f"set --endpoint={base(server)}," in report.said("loopback")
        assert doctor(f"--endpoint={base(server)}").status("loopback") == "pass"
    with closing(socket.create_server(("::1", 0), family=socket.AF_INET6)) as listener:
        port = listener.getsockname()[1]
        report = doctor(f"--endpoint=http://127.0.0.1:{port}")
        assert report.status("loopback") == "fail"
        assert f"set --endpoint=http://[::1]:{port}," in report.said("loopback")


def test_localhost_is_the_other_family_alone(tmp_path: Path) -> None:
    """As where /etc/hosts has ``::1 localhost`` alone, which a mount namespace makes so for one process."""
    hosts = tmp_path / "hosts"
    hosts.write_text("::1 localhost\n")
    inside = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts)]
    if subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    with FaultServer("http", TAKES) as server:

        def localhost(endpoint: str) -> dict[str, str]:
            command = [sys.executable, "-m", "otelagent.cli.main", "doctor", "--json", f"--endpoint={endpoint}"]
            done = subprocess.run([*inside, *command], capture_output=True, text=True, env=clean_environ(), timeout=60)
            return {one["id"]: f"{one['status']} {one['advice']}" for one in json.loads(done.stdout)["checks"]}

        broken = localhost(f"http://localhost:{server.port}")
        assert broken["loopback"].startswith(f"fail set --endpoint={base(server)},")
        assert broken["span"].startswith("fail")
        followed = localhost(base(server))
        assert followed["loopback"].startswith("pass")
        assert followed["span"].startswith("pass")


def test_a_proxy_that_exports_do_not_go_through() -> None:
    with FaultServer("http", TAKES) as proxy:
        given = {"HTTP_PROXY": f"http://127.0.0.1:{proxy.port}"}
        report = doctor(f"--endpoint=http://127.0.0.1:{free_port()}", given=given)
        assert report.status("proxy") == "fail"
        assert "http_proxy" in report.said("proxy")
        assert not proxy.requests
        assert (
            doctor(f"--endpoint=http://127.0.0.1:{free_port()}", given={**given, "NO_PROXY": "127.0.0.1"}).status(
                "proxy"
            )
            == "pass"
        )
        with FaultServer("http", TAKES) as server:
            report = doctor(f"--endpoint={base(server)}", given=given)
        assert report.status("proxy") == report.status("span") == "pass"
        assert not proxy.stop()


def test_http_to_a_port_with_tls(authority: Authority, files: tuple[Path, Path]) -> None:
    with FaultServer("http", TAKES, tls=files) as server:
        report = doctor(f"--endpoint=http://127.0.0.1:{server.port}")
        assert report.status("scheme") == "fail"
        assert f"set --endpoint=https://127.0.0.1:{server.port}" in report.said("scheme")
        report = doctor(f"--endpoint={base(server)}", f"--certificate={authority.certificate}")
        assert report.status("scheme") == report.status("certificate") == report.status("span") == "pass"


def test_https_to_a_port_without_tls() -> None:
    with FaultServer("http", TAKES) as server:
        report = doctor(f"--endpoint=https://127.0.0.1:{server.port}")
        assert report.status("scheme") == "fail"
        assert f"set --endpoint={base(server)}," in report.said("scheme")
        assert doctor(f"--endpoint={base(server)}").status("scheme") == "pass"


def test_grpc_with_tls_to_a_port_without() -> None:
    with FaultServer("grpc", {}) as server:
        report = doctor(f"--endpoint=https://127.0.0.1:{server.port}", "--protocol=grpc")
        assert report.status("scheme") == "fail"
        report = doctor(f"--endpoint=http://127.0.0.1:{server.port}", "--protocol=grpc")
        assert report.status("scheme") == report.status("span") == "pass"


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_an_authority_that_is_not_trusted(protocol: str, authority: Authority, files: tuple[Path, Path]) -> None:
    with FaultServer(
        "grpc" if protocol == "grpc" else "http", TAKES if protocol != "grpc" else {}, tls=files
    ) as server:
        options = (f"--endpoint=https://127.0.0.1:{server.port}", f"--protocol={protocol}")
        report = doctor(*options)
        assert report.status("certificate") == "fail"
        assert "OTEL_EXPORTER_OTLP_CERTIFICATE" in report.said("certificate")
        assert {report.status(name) for name in ("receiver", "protocol", "path", "credentials")} <= {"skip", ""}
        assert not report.err
        report = doctor(*options, OTEL_EXPORTER_OTLP_CERTIFICATE=str(authority.certificate))
        assert report.status("certificate") == report.status("span") == "pass"


@pytest.mark.parametrize(
    ("names", "until", "said"),
    [
        ("DNS:collector.example", "20990101000000Z", "as the endpoint's host"),
        ("IP:127.0.0.1", "20210101000000Z", "renew the collector's certificate"),
    ],
    ids=["another name", "expired"],
)
def test_a_certificate_that_does_not_fit(
    names: str, until: str, said: str, authority: Authority, tmp_path: Path
) -> None:
    trusted = f"--certificate={authority.certificate}"
    with FaultServer("http", TAKES, tls=sign(authority, tmp_path / "wrong", names, until=until)) as server:
        report = doctor(f"--endpoint={base(server)}", trusted)
        assert report.status("certificate") == "fail"
        assert said in report.said("certificate")
    with FaultServer("http", TAKES, tls=sign(authority, tmp_path / "right", "IP:127.0.0.1")) as server:
        report = doctor(f"--endpoint={base(server)}", trusted)
        assert report.status("certificate") == report.status("span") == "pass"


def test_a_certificate_file_that_is_none(authority: Authority, files: tuple[Path, Path], tmp_path: Path) -> None:
    wrong = tmp_path / "ca.pem"
    wrong.write_text("nothing of the kind")
    with FaultServer("http", TAKES, tls=files) as server:
        report = doctor(f"--endpoint={base(server)}", f"--certificate={wrong}")
        assert report.status("certificate") == "fail"
        assert str(wrong) in report.said("certificate")
        report = doctor(f"--endpoint={base(server)}", f"--certificate={authority.certificate}")
        assert report.status("certificate") == "pass"


def test_the_server_wants_a_certificate_of_the_client(authority: Authority, files: tuple[Path, Path]) -> None:
    with FaultServer("http", TAKES, tls=(*files, authority.certificate)) as server:
        options = (f"--endpoint={base(server)}", f"--certificate={authority.certificate}")
        report = doctor(*options)
        assert report.status("client_certificate") == "fail"
        assert (
            "set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE or --client-certificate, and OTEL_EXPORTER_OTLP_CLIENT_KEY"
            in report.said("client_certificate")
        )
        certificate, key = authority.sign("client")
        report = doctor(*options, f"--client-certificate={certificate}", f"--client-key={key}")
        assert report.status("client_certificate") == report.status("span") == "pass"


def test_a_certificate_of_the_client_that_is_not_taken(
    authority: Authority, files: tuple[Path, Path], tmp_path: Path
) -> None:
    certificate, key = Authority(tmp_path, "another").sign("client")
    with FaultServer("http", TAKES, tls=(*files, authority.certificate)) as server:
        options = (f"--endpoint={base(server)}", f"--certificate={authority.certificate}")
        report = doctor(*options, f"--client-certificate={certificate}", f"--client-key={key}")
        assert report.status("client_certificate") == "fail"
        assert "client_ca_file" in report.said("client_certificate")


def test_http_to_a_grpc_port() -> None:
    with FaultServer("grpc", {}) as server:
        endpoint = f"--endpoint=http://127.0.0.1:{server.port}"
        report = doctor(endpoint)
        assert report.status("protocol") == "fail"
        assert "set OTEL_EXPORTER_OTLP_PROTOCOL=grpc or --protocol=grpc," in report.said("protocol")
        report = doctor(endpoint, "--protocol=grpc")
        assert report.status("protocol") == report.status("span") == "pass"
        assert "unimplemented" in report.said("metric")  # this server takes none


def test_grpc_to_an_http_port() -> None:
    with FaultServer("http", TAKES) as server:
        endpoint = f"--endpoint=http://127.0.0.1:{server.port}"
        report = doctor(endpoint, "--protocol=grpc")
        assert report.status("protocol") == "fail"
        assert "set --protocol=http/protobuf," in report.said("protocol")
        assert doctor(endpoint, "--protocol=http/protobuf").status("protocol") == "pass"


@pytest.mark.parametrize(
    ("protocol", "port", "right"), [("http/protobuf", 4317, "grpc"), ("grpc", 4318, "http/protobuf")]
)
def test_the_other_protocols_port_where_nothing_answers(protocol: str, port: int, right: str) -> None:
    options = (f"--endpoint=http://{NOBODY}:{port}", f"--protocol={protocol}")
    report = doctor(*options)
    assert report.status("protocol") == "warn"
    assert f"protocol={right}" in report.said("protocol")
    assert doctor(options[0], f"--protocol={right}").status("protocol") == "skip"


def test_a_doubled_path() -> None:
    with Viewer() as viewer:
        doubled = f"{viewer.base}/v1/traces"
        report = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=doubled)
        assert report.status("path") == "fail"
        assert f"set OTEL_EXPORTER_OTLP_ENDPOINT={viewer.base}, to which" in report.said("path")
        assert report.status("span") == "fail"
        report = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=viewer.base)
        assert report.status("path") == report.status("span") == report.status("metric") == "pass"
        # The signal's own variable is used as it is.
        assert doctor(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=doubled).status("path") == "pass"


def test_a_wrong_path_and_what_the_variable_in_force_takes() -> None:
    whole, general = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"
    with Viewer() as viewer:
        for variable, value in ((whole, f"{viewer.base}/v1/traces"), (general, viewer.base)):
            report = doctor(given={variable: f"{viewer.base}/traces"})
            assert report.status("path") == "fail"
            (advice,) = [one["advice"] for one in report.of("path")]
            assert advice.startswith(f"set {variable}={value}, ")
            assert report.status("span") == "fail"
            assert doctor(given={variable: value}).status("path") == "pass"
        assert "used as it is" in doctor(given={whole: viewer.base}).said("path")
        # The option wins over both, and gets the path.
        report = doctor(f"--endpoint={viewer.base}/traces", given={whole: viewer.base, general: viewer.base})
        assert f"set --endpoint={viewer.base}, to which /v1/traces is appended" in report.said("path")


def test_a_wrong_path_of_one_of_several_destinations() -> None:
    with Viewer() as viewer:
        destinations = json.dumps({"copy": {"endpoint": f"{viewer.base}/traces"}})
        report = doctor(f"--endpoint={viewer.base}", OTELAGENT_DESTINATIONS=destinations)
        assert f"set endpoint={viewer.base} for 'copy' in OTELAGENT_DESTINATIONS," in report.said("path")


@pytest.mark.parametrize("status", [404, 405])
def test_a_path_that_the_server_has_not(status: int) -> None:
    # A span, the look whether it is HTTP, and a span to the usual path.
    with FaultServer("http", {"status": status}, {"status": status}, TAKES) as server:
        report = doctor(f"--endpoint={base(server)}/otlp")
        assert report.status("path") == "fail"
        assert str(status) in report.said("path")
        assert f"set --endpoint={base(server)}," in report.said("path")
        assert doctor(f"--endpoint={base(server)}").status("path") == "pass"


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_no_credentials_and_wrong_ones(protocol: str) -> None:
    grpc = protocol == "grpc"
    refuses: dict[str, Any] = {"code": "UNAUTHENTICATED"} if grpc else {"status": 401}
    script: dict[str, Any] = {"accepts": ["Bearer right"], "otherwise": refuses, **({} if grpc else TAKES)}
    with FaultServer("grpc" if grpc else "http", script) as server:
        options = (f"--endpoint=http://127.0.0.1:{server.port}", f"--protocol={protocol}")
        none = doctor(*options)
        assert none.status("credentials") == "fail"
        assert "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20…" in none.said("credentials")
        assert "--bearer-token-file" in none.said("credentials")
        wrong = doctor(*options, "--headers=authorization=Bearer%20wrong")
        assert wrong.status("credentials") == "fail"
        assert "renew or correct" in wrong.said("credentials")
        assert "wrong" not in json.dumps(wrong.json).replace("wrong path", "")
        right = doctor(*options, "--headers=authorization=Bearer%20right")
        assert right.status("credentials") == right.status("span") == "pass"


def test_the_server_knows_the_client_and_forbids_it() -> None:
    with FaultServer("http", {"status": 403}) as server:
        report = doctor(f"--endpoint={base(server)}", "--headers=authorization=Bearer%20mine")
        assert report.status("credentials") == "fail"
        assert "allow this one to write" in report.said("credentials")
        server.begin(TAKES)
        report = doctor(f"--endpoint={base(server)}", "--headers=authorization=Bearer%20mine")
        assert report.status("credentials") == "pass"


def web_token(until_s: float) -> str:
    parts = ({"alg": "none"}, {"exp": int(until_s)})
    return ".".join(
        [*(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), "x"]
    )


def test_a_token_file_that_is_missing_or_has_expired(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with FaultServer("http", TAKES) as server:
        options = (f"--endpoint={base(server)}", f"--bearer-token-file={path}")
        report = doctor(*options)
        assert report.status("credentials") == "fail"
        assert str(path) in report.said("credentials")
        path.write_text(web_token(time.time() - 60))
        report = doctor(*options)
        assert report.status("credentials") == "fail"
        assert "expired" in report.said("credentials")
        path.write_text(web_token(time.time() + 3600))
        report = doctor(*options)
        assert report.status("credentials") == report.status("span") == "pass"


@pytest.mark.parametrize(("off_s", "status"), [(-3600, "fail"), (20, "warn"), (0, "pass")])
def test_clocks_that_disagree(off_s: float, status: str) -> None:
    script = {**TAKES, "headers": {"date": formatdate(time.time() + off_s, usegmt=True)}}
    with FaultServer("http", script) as server:
        report = doctor(f"--endpoint={base(server)}")
        assert report.status("clock") == status
        assert report.code == (1 if status == "fail" else 0)
        assert ("NTP" in report.said("clock")) is (status != "pass")


def test_a_span_that_the_server_takes_and_refuses() -> None:
    refuses = {"status": 200, "body": partial_success(1, "too old").hex()}
    with FaultServer("http", refuses, TAKES) as server:
        report = doctor(f"--endpoint={base(server)}")
        assert report.status("span") == "fail"
        assert "too old" in report.said("span")
        assert doctor(f"--endpoint={base(server)}").status("span") == "pass"


def test_a_server_without_metrics_is_only_told() -> None:
    # A span, the question for the time, a metric.
    with FaultServer("http", TAKES, TAKES, {"status": 404}) as server:
        report = doctor(f"--endpoint={base(server)}")
        assert report.status("metric") == "warn"
        assert report.code == 0
        server.begin(TAKES)
        assert doctor(f"--endpoint={base(server)}").status("metric") == "pass"


def test_each_destination_is_tried() -> None:
    with FaultServer("http", TAKES) as main, FaultServer("http", TAKES) as second:
        given = {"second": {"endpoint": base(second)}, "gone": {"endpoint": f"http://127.0.0.1:{free_port()}"}}
        report = doctor(f"--endpoint={base(main)}", f"--destinations={json.dumps(given)}")
        assert [one["status"] for one in report.of("span")] == ["pass", "pass", "fail"]
        assert report.of("span")[2]["about"].startswith("gone → ")
        del given["gone"]
        report = doctor(f"--endpoint={base(main)}", f"--destinations={json.dumps(given)}")
        assert report.status("span") == "pass"


def test_the_report_for_people(tmp_path: Path) -> None:
    with FaultServer("http", TAKES) as server:
        command = [sys.executable, "-m", "otelagent.cli.main", "doctor", f"--endpoint={base(server)}"]
        plain = subprocess.run(command, capture_output=True, text=True, env=clean_environ(), timeout=60)
    assert plain.returncode == 0
    assert "\x1b" not in plain.stdout
    assert not plain.stderr
    assert "pass  A span arrives" in plain.stdout
    lines = [line for line in plain.stdout.splitlines() if line[2:6] in ("pass", "skip", "warn", "FAIL")]
    title = max(len(line[8:].partition("  ")[0]) for line in lines)
    assert all(line[8 + title : 10 + title] == "  " for line in lines)
    master, slave = os.openpty()
    try:
        for variables, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
            environ = clean_environ(TERM="xterm", **variables)
            subprocess.run(command, stdout=slave, stderr=slave, env=environ, timeout=60)
            assert (b"\x1b[" in os.read(master, 65536)) is coloured
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("words", [["--timeout", "none"], ["--no-such-option"], ["python", "app.py"]])
def test_a_wrong_command_line(words: list[str]) -> None:
    command = [sys.executable, "-m", "otelagent.cli.main", "doctor", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environ(), timeout=60)
    assert done.returncode == 2
    assert "otelagent doctor:" in done.stderr
