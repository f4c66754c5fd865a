"""Who is speaking: the resource attributes of this process, detected without reading OpenTelemetry's environment.

Precedence, highest first: the settings of the service (name, version, namespace, environment); the configured resource
attributes (`OTEL_RESOURCE_ATTRIBUTES` among them); what is detected here. Command line and arguments are never read
into the resource: they carry secrets.

Names: OpenTelemetry semantic conventions, resource attributes.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING

from otelagent.record.program import PARENT_VARIABLE, container_id, program_name
from otelagent.version import VERSION

if TYPE_CHECKING:
    from otelagent.config import Config

__all__ = ["UNKNOWN_SERVICE", "AttributeValue", "process_attributes", "static_attributes"]

AttributeValue = str | int

UNKNOWN_SERVICE = "unknown_service:python"

# platform.machine() -> host.arch of the semantic conventions; others go out as the machine names itself.
_ARCHITECTURES = {
    "x86_64": "amd64",
    "i386": "x86",
    "i686": "x86",
    "aarch64": "arm64",
    "armv6l": "arm32",
    "armv7l": "arm32",
    "ppc64le": "ppc64",
}
_OS_TYPES = {"sunos": "solaris", "hp-ux": "hpux", "dragonfly": "dragonflybsd"}


def static_attributes(config: Config) -> dict[str, AttributeValue]:
    """The attributes that a fork child shares with its parent, the configured ones included."""
    program = program_name(sys.orig_argv, getattr(sys, "argv", ()), os.environ.get(PARENT_VARIABLE))
    detected: dict[str, AttributeValue] = {
        "service.name": program or UNKNOWN_SERVICE,
        **_telemetry(),
        **_runtime(),
        **_host_and_os(),
    }
    container = container_id()
    if container:
        detected["container.id"] = container
    detected.update(_configured(config))
    return detected


def process_attributes(static: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
    """The attributes of this very process: new after a fork, unless the configuration set them.

    :param static: what `static_attributes` returned; a configured `service.instance.id` stays as it is in every child.
    """
    own: dict[str, AttributeValue] = {"service.instance.id": str(uuid.uuid4()), "process.pid": os.getpid()}
    return {key: value for key, value in own.items() if key not in static}


def _configured(config: Config) -> dict[str, AttributeValue]:
    service = config.service
    attributes: dict[str, AttributeValue] = {key: value for key, value in service.resource_attributes.items() if key}
    settings = {
        # The default of the setting says no more than nothing: what is detected beats it.
        "service.name": service.name if service.name != UNKNOWN_SERVICE else None,
        "service.version": service.version,
        "service.namespace": service.namespace,
        "deployment.environment.name": service.environment,
    }
    attributes.update({key: value for key, value in settings.items() if value})
    if not attributes.get("service.name", True):
        # An empty name is no name (resource specification: service.name must not be empty).
        del attributes["service.name"]
    return attributes


def _telemetry() -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.language": "python",
        "telemetry.distro.name": "otelagent",
        "telemetry.distro.version": VERSION,
    }
    try:
        # A module of one line; asking the distribution's metadata would import a hundred.
        from opentelemetry.sdk.version import __version__

        attributes["telemetry.sdk.version"] = __version__
    except ImportError:
        pass
    return attributes


def _runtime() -> dict[str, AttributeValue]:
    release = sys.version_info
    number = ".".join(map(str, release[:3] if release.releaselevel == "final" and not release.serial else release))
    attributes: dict[str, AttributeValue] = {
        "process.runtime.name": sys.implementation.name,
        "process.runtime.version": number,
        "process.runtime.description": sys.version,
    }
    if sys.executable:
        attributes["process.executable.name"] = os.path.basename(sys.executable)
        attributes["process.executable.path"] = sys.executable
    return attributes


def _host_and_os() -> dict[str, AttributeValue]:
    import platform

    system = platform.uname()
    attributes: dict[str, AttributeValue] = {
        "host.name": system.node,
        "host.arch": _ARCHITECTURES.get(system.machine, system.machine.lower()),
        "os.type": _OS_TYPES.get(system.system.lower(), system.system.lower()),
        "os.version": system.version if system.system in ("Windows", "SunOS") else system.release,
    }
    try:
        attributes["os.description"] = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError, UnicodeError):
        attributes["os.description"] = f"{system.system} {system.release}"
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            with open(path, "rb") as file:
                machine = file.read(64).strip().decode("ascii")
        except (OSError, UnicodeError):
            continue
        if machine:
            attributes["host.id"] = machine
            break
    return {key: value for key, value in attributes.items() if value}
