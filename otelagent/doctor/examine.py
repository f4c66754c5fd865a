"""All checks, and an examination: which of them are asked about what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from otelagent.config import Config, load
from otelagent.doctor import answer, application, check, ending, network, receiver, receiving, setup
from otelagent.doctor.check import Check, Finding, Result
from otelagent.doctor.observe import Observation
from otelagent.doctor.setup import Setup
from otelagent.doctor.target import Target, targets
from otelagent.errors import ConfigError

__all__ = ["all_checks", "examine_command", "examine_destinations", "examine_setup"]

# Asked once for each place, however many signals go there.
_PLACE = (*network.CHECKS, *receiver.CHECKS, *answer.CHECKS)
_COMMAND = (*application.CHECKS, *ending.CHECKS)


def examine_setup(given: Setup) -> list[Result]:
    """What can be said without trying anything."""
    return check.run(setup.CHECKS, given)


def examine_destinations(given: Setup) -> list[Result]:
    """Tries every destination: each place once, and each signal."""
    if given.config is None:
        return [Result(one, Finding("skip", "the settings are wrong")) for one in (*_PLACE, *answer.ITEMS)]
    try:
        requests = destination_requests(given)
    except ConfigError as error:
        return [Result(one, Finding("skip", f"nothing can be recorded: {error}")) for one in answer.ITEMS]
    found = targets(given.config, requests, given.environ, given.timeout_s)
    results: list[Result] = []
    failed: dict[tuple[object, ...], tuple[str, ...]] = {}
    for target in found:
        if target.export.exporter != "otlp":
            continue
        if (key := _place(target)) not in failed:
            of_place = check.run(_PLACE, target)
            results += of_place
            failed[key] = tuple(one.check.title for one in of_place if one.status == "fail")
        target.failed = failed[key]
    for one in answer.ITEMS:
        for target in found:
            results += check.run((one,), target)
    return results


def examine_command(seen: Observation | None, before: Sequence[Result] = ()) -> list[Result]:
    """A command that has run; None for one that hasn't, for its settings are wrong.

    :param before: what came of the other checks.
    """
    if seen is None:
        return [Result(one, Finding("skip", "the command isn't run: the settings are wrong")) for one in _COMMAND]
    failed = {one.check.id: one.check.title for one in before if one.status == "fail"}
    if any(one.id in failed for one in _PLACE):  # from which those of the items follow
        failed = {name: title for name, title in failed.items() if name not in {one.id for one in answer.ITEMS}}
    return check.run(_COMMAND, replace(seen, failed=failed))


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
    headers, token_url = tuple(otlp.headers.items()), otlp.oauth2.token_url
    return (path, headers, token_url, *(getattr(otlp, name) for name in differs))


def all_checks() -> tuple[Check, ...]:
    """Every check there is, in the order in which they are told."""
    return (*setup.CHECKS, *_PLACE, *answer.ITEMS, *_COMMAND, *receiving.CHECKS)
