"""All checks, and an examination: which of them are asked about what."""

from __future__ import annotations

from otelagent.config import Config, load
from otelagent.doctor import application, check, destination, receiving, setup
from otelagent.doctor.check import Check, Finding, Result
from otelagent.doctor.destination import Target, targets
from otelagent.doctor.observe import Observation
from otelagent.doctor.setup import Setup
from otelagent.errors import ConfigError

__all__ = ["all_checks", "examine_command", "examine_destinations", "examine_setup"]


def examine_setup(given: Setup) -> list[Result]:
    """What can be said without trying anything."""
    return check.run(setup.CHECKS, given)


def examine_destinations(given: Setup) -> list[Result]:
    """Tries every destination: each place once, and each signal."""
    if given.config is None:
        return [Result(one, Finding("skip", "the settings are wrong")) for one in destination.CHECKS]
    try:
        requests = destination_requests(given)
    except ConfigError as error:
        return [Result(one, Finding("skip", f"nothing can be recorded: {error}")) for one in destination.ITEMS]
    found = targets(given.config, requests, given.environ, given.timeout_s)
    results: list[Result] = []
    seen: set[tuple[object, ...]] = set()
    for target in found:
        if target.export.exporter == "otlp" and (key := _place(target)) not in seen:
            seen.add(key)
            results += check.run(destination.NETWORK, target)
    for one in destination.ITEMS:
        for target in found:
            results += check.run((one,), target)
    return results


def examine_command(seen: Observation) -> list[Result]:
    """A command that has run."""
    return check.run(application.CHECKS, seen)


def destination_requests(given: Setup) -> dict[str, bytes]:
    """One item of each signal, recorded whatever the sampler is."""
    from otelagent.doctor.synthetic import record

    sampled: Config = load({"sampler": "always_on"}, given.environ)
    return record(sampled)


def _place(target: Target) -> tuple[object, ...]:
    otlp = target.export.otlp
    differs = ("protocol", "certificate", "client_certificate", "client_key", "headers_file", "bearer_token_file")
    # The signals' paths differ; a second place is one that is reached otherwise.
    path = otlp.endpoint.removesuffix(f"/v1/{target.signal}")
    return (path, *(getattr(otlp, name) for name in differs))


def all_checks() -> tuple[Check, ...]:
    """Every check there is, in the order in which they are told."""
    return (*setup.CHECKS, *destination.CHECKS, *application.CHECKS, *receiving.CHECKS)
