from __future__ import annotations

import os
import platform
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.semconv._incubating.attributes import (
    host_attributes,
    os_attributes,
    process_attributes,
    telemetry_attributes,
)
from opentelemetry.semconv.attributes import (
    container_attributes,
    deployment_attributes,
    service_attributes,
)

from otelagent.config import load
from otelagent.record.program import container_id, program_name
from otelagent.record.resource import static_attributes
from otelagent.record.sdk_resource import ProcessResource


def resource(environ: Mapping[str, str] | None = None, **settings: object) -> dict[str, object]:
    return dict(ProcessResource(static_attributes(load(settings, environ or {}))).attributes)


def test_detected_attributes() -> None:
    got = resource()
    assert got["telemetry.sdk.name"] == "opentelemetry"
    assert got["telemetry.sdk.language"] == "python"
    assert got["telemetry.distro.name"] == "otelagent"
    assert got["process.pid"] == os.getpid()
    assert got["process.runtime.name"] == sys.implementation.name
    assert got["process.executable.path"] == sys.executable
    assert got["host.name"] == platform.node()
    assert got["os.type"] == platform.system().lower()
    assert uuid.UUID(str(got["service.instance.id"])).version == 4
    assert not any("command" in key or "arg" in key for key in got)


def test_every_name_is_one_of_the_semantic_conventions() -> None:
    conventions = {
        value
        for module in (
            container_attributes,
            deployment_attributes,
            host_attributes,
            os_attributes,
            process_attributes,
            service_attributes,
            telemetry_attributes,
        )
        for name, value in vars(module).items()
        if name.isupper()
    }
    conventions |= {"telemetry.sdk.name", "telemetry.sdk.language", "telemetry.sdk.version"}
    named = resource(service_name="s", service_version="1", service_namespace="n", deployment_environment="e")
    assert set(named) - conventions == set()
    assert "container.id" in conventions


def test_precedence() -> None:
    environ = {
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=attribute,host.name=mine,service.version=1,team=web,process.pid=7",
    }
    got = resource(environ)
    assert (got["service.name"], got["host.name"], got["team"]) == ("attribute", "mine", "web")
    assert (got["service.version"], got["process.pid"]) == ("1", "7")
    got = resource(environ, service_name="argument", service_version="2", deployment_environment="test")
    assert (got["service.name"], got["service.version"]) == ("argument", "2")
    assert got["deployment.environment.name"] == "test"


def test_a_program_names_its_service_unless_it_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "shop.py"])
    assert resource()["service.name"] == "shop"
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "pass"])
    monkeypatch.setattr(sys, "argv", ["-c"])
    assert resource()["service.name"] == "unknown_service:python"


def test_a_renewed_resource_is_the_same_object_of_another_process() -> None:
    one = ProcessResource({"service.name": "shop"})
    before, hashed = dict(one.attributes), hash(one)
    one.renew()
    assert one.attributes["service.instance.id"] != before["service.instance.id"]
    assert hash(one) != hashed
    assert one.attributes["service.name"] == "shop"


def test_a_configured_instance_id_stays() -> None:
    one = ProcessResource({"service.instance.id": "pod-1"})
    one.renew()
    assert one.attributes["service.instance.id"] == "pod-1"


def test_equality_and_hash_agree_with_the_stock_class() -> None:
    ours = ProcessResource({"service.name": "shop"})
    stock = Resource(dict(ours.attributes))
    assert ours == stock
    assert hash(ours) == hash(stock)
    assert ours != Resource({})
    assert ours != "shop"
    merged = ours.merge(Resource({"service.name": "other"}))
    assert merged.attributes["service.name"] == "other"
    assert merged.attributes["process.pid"] == os.getpid()


SPAWNED = "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)"


@pytest.mark.parametrize(
    ("orig_argv", "argv", "name"),
    [
        (["python", "app.py", "--port", "80"], ["app.py"], "app"),
        (["python", "/srv/shop/app.py"], [], "app"),
        (["python", "-u", "-X", "dev", "-W", "error", "app.py"], [], "app"),
        (["python", "-Wd", "-Xdev", "app.py"], [], "app"),
        (["python", "--check-hash-based-pycs", "always", "app.py"], [], "app"),
        (["python", "-m", "shop.web", "-x"], ["-m"], "shop.web"),
        (["python", "-mshop.web"], [], "shop.web"),
        (["python", "-Im", "shop.web"], [], "shop.web"),
        (["python", "-m", "shop.__main__"], [], "shop"),
        (["python", "/srv/shop/__main__.py"], [], "shop"),
        (["python", "/srv/shop/"], [], "shop"),
        (["python", "/srv/shop.pyz"], [], "shop"),
        (["python", "/usr/bin/report"], [], "report"),
        (["python", "/usr/bin/gunicorn", "-w", "4", "-b", "localhost:80", "shop.wsgi:app"], [], "shop.wsgi"),
        (["python", "/usr/bin/gunicorn", "-b", "unix:sock", "shop:make()"], [], "shop"),
        (["python", "/usr/bin/gunicorn", "-c", "conf.py"], [], "gunicorn"),
        (["python", "-m", "uvicorn", "shop.main:app", "--port", "80"], [], "shop.main"),
        (["python", "/usr/bin/celery", "-A", "shop.tasks", "worker"], [], "shop.tasks"),
        (["python", "/usr/bin/flask", "--app=shop:create", "run"], [], "shop"),
        (["python", "/usr/bin/report", "user:secret"], [], "report"),
        (["python", "-c", "import x", "app.py"], ["-c"], None),
        (["python", "-"], ["-"], None),
        (["python"], [""], None),
        (["python", "-c", "spawn_main()", "--multiprocessing-fork"], ["/srv/app.py"], "app"),
        (["python", "-c", SPAWNED, "--multiprocessing-fork"], ["/env/bin/uvicorn", "shop:app"], "shop"),
        ([], ["uwsgi"], "uwsgi"),
        ([], [], None),
        (["python", "-m"], [], None),
    ],
)
def test_program_name(orig_argv: list[str], argv: list[str], name: str | None) -> None:
    assert program_name(orig_argv, argv) == name


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["-c", SPAWNED, "--multiprocessing-fork"], "shop.web"),
        (["-s", "-W", "error", "-c", "from multiprocessing.forkserver import main; main(3, 4, [])"], "shop.web"),
        (["-cfrom billiard.spawn import spawn_main; spawn_main()"], "shop.web"),
        (["-m", "loky.backend.popen_loky_posix", "--process-name", "x"], "shop.web"),
        (["-m", "joblib.externals.loky.backend.popen_loky_posix"], "shop.web"),
        (["-m", "multiprocessing.spawn"], "multiprocessing.spawn"),
        (["-c", "from multiprocessing import spawn"], None),
        (["-c", "pass"], None),
        (["other.py"], "other"),
        (["-m", "other"], "other"),
        ([], None),
    ],
)
def test_only_a_worker_is_called_as_its_parent(words: list[str], name: str | None) -> None:
    assert program_name(["python", *words], ["-c"], "shop.web") == name


ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "found"),
    [
        (f"12:memory:/docker/{ID}\n", "", True),
        (f"1:name=systemd:/system.slice/docker-{ID}.scope\n", "", True),
        (f"4:cpu:/kubepods/burstable/pod1-2/{ID}\n", "", True),
        (f"4:cpu:/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", "", True),
        (f"4:cpu:/kubepods/pod1/crio-{ID}\n", "", True),
        (f"1:x:/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}\n", "", True),
        ("0::/\n", f"7 6 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 x rw\n", True),
        (
            "0::/\n",
            f"7 6 0:1 /containers/storage/overlay-containers/{ID}/userdata/hostname /etc/hostname rw - tmpfs x\n",
            True,
        ),
        (
            "0::/\n",
            f"7 6 0:1 /var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{ID}/hostname /etc/hostname",
            False,
        ),
        ("0::/user.slice/user-1000.slice\n", "7 6 8:1 / / rw - ext4 x rw\n", False),
        (f"4:cpu:/docker/{ID[:-1]}\n", "", False),
        ("", "", False),
    ],
)
def test_container_id(tmp_path: Path, cgroup: str, mountinfo: str, found: bool) -> None:
    (tmp_path / "cgroup").write_text(cgroup)
    (tmp_path / "mountinfo").write_text(mountinfo)
    assert container_id(str(tmp_path / "cgroup"), str(tmp_path / "mountinfo")) == (ID if found else None)


def test_no_tables_no_container(tmp_path: Path) -> None:
    assert container_id(str(tmp_path / "none"), str(tmp_path / "neither")) is None
