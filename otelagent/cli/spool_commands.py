"""The commands that send what waits in a spool, as shown and as typed: where to, and with whose credentials.

To a server that only the command line names goes no credential that isn't on the command line: what the environment
has is another server's.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from otelagent.cli.options import UsageError
from otelagent.config.mask import MASK, display
from otelagent.config.settings import CREDENTIALS, SETTINGS, SETTINGS_BY_NAME

if TYPE_CHECKING:
    from otelagent.config import Config
    from otelagent.delivery.spool.survey import KeySurvey

__all__ = [
    "commands_for",
    "config_of",
    "destination_of",
    "refuse_blanks",
    "refuse_others_credentials",
    "shown",
    "without_credentials",
]

# The settings that say who sends.
_CREDENTIAL_SETTINGS = tuple(
    setting
    for setting in SETTINGS
    if "otlp." in setting.path
    and setting.name.removeprefix("logs_") in (*CREDENTIALS, "headers_file", "client_certificate", "client_key")
)
# What stands in a shown command for what isn't shown, where it may stand: as the whole, a header's value, a user and
# password, a query.
_BLANK = r"(?:\.\.\.|\*\*\*)"
_BLANK_SECRET = re.compile(rf"(?:^|[=,])\s*{_BLANK}\s*(?:,|$)")
_BLANK_ADDRESS = re.compile(rf"^{_BLANK}$|(?:^|//|:){_BLANK}(?::[^/]*)?@|[?&=]{_BLANK}(?:&|$)")


def refuse_blanks(settings: Mapping[str, str]) -> None:
    """Refuses what a shown command leaves to be filled in.

    :param settings: of the command line, by name.
    :raises UsageError: it wasn't.
    """
    for name, value in settings.items():
        setting = SETTINGS_BY_NAME[name]
        blank = _BLANK_SECRET if setting.secret else _BLANK_ADDRESS
        if (setting.secret or setting.kind in ("endpoint", "url")) and blank.search(value):
            raise UsageError(f"{setting.option}: what stands there as ... has to be filled in first")


def shown(commands: Sequence[str]) -> Iterator[str]:
    """The lines that show commands; apart those that can't be run as they stand."""
    ready = [command for command in commands if MASK not in command]
    if ready:
        yield "This sends it now:\n"
        yield from (f"  {command}" for command in ready)
    if len(ready) < len(commands):
        yield "Fill in first what stands here as ... (--headers= for none):\n"
        yield from (f"  {command.replace(MASK, '...')}" for command in commands if MASK in command)


def commands_for(found: Sequence[KeySurvey], settings: Mapping[str, str]) -> list[str]:
    """What has to be typed for all that is left to be sent where it was for.

    What isn't known has to be filled in where the mask is: headers that say which tenant's it is, the user, password
    and query of an address, and credentials where those that are configured are another server's.

    :param settings: of the command line, by name, as for all that is here.
    """
    from otelagent.delivery.spool.place import key_of

    given = {name: display(SETTINGS_BY_NAME[name].kind, value) for name, value in settings.items()}
    # Where to and with which credentials is another destination's.
    kept = {name: value for name, value in given.items() if "otlp." not in SETTINGS_BY_NAME[name].path}
    environment = without_credentials(kept)
    credentials = _has_credentials(settings)
    configured: list[str] = []
    commands: dict[str, list[str]] = {}
    for one in found:
        if not one.left_items:
            continue
        if destination_of(one, config_of(one, settings)) is not None:
            blank = not credentials and _credential_variables() and _is_elsewhere(one, settings)
            configured = [_command({**given, "headers": MASK} if blank else given)]
            continue
        own = dict(kept)
        signal, destination = one.about.get("signal", "traces"), one.about.get("destination", MASK)
        there = environment.export(signal).otlp
        protocol = one.about.get("protocol", there.protocol)
        path, question, query = destination.partition("?")
        own["endpoint"] = path.removesuffix(f"/v1/{signal}") + question + query
        if protocol != there.protocol:
            own["protocol"] = protocol
        others = _origin(destination) != _origin(there.endpoint) and _credential_variables()
        if credentials or others or (one.about and key_of({**one.about, "destination": path}) != one.key):
            own["headers"] = MASK
        commands.setdefault(_command(own), []).append(one.key)
    return configured + [" ".join((command, *keys)) for command, keys in commands.items()]


def config_of(one: KeySurvey, settings: Mapping[str, str]) -> Config:
    """The settings that a key is sent with.

    An endpoint of the command line that is the key's whole address is used as it is, whatever its path. If it is on
    another server than the environment's, the environment's credentials aren't for it.
    """
    from otelagent.config import load

    used, environ = dict(settings), dict(os.environ)
    if _is_elsewhere(one, settings):
        for variable in _credential_variables():
            del environ[variable]
    names = _endpoint_settings(one)
    endpoint = next((used[name] for name in names if name in used), "")
    if endpoint and _is_whole_address(endpoint, one):
        for name in names:
            used.pop(name, None)
            environ.pop(SETTINGS_BY_NAME[name].variable, None)
        environ[SETTINGS_BY_NAME[names[0]].otel[0]] = endpoint
    return load(used, environ)


def refuse_others_credentials(keys: Iterable[KeySurvey], settings: Mapping[str, str]) -> None:
    """Refuses to guess which credentials are wanted for a server that only the command line names.

    :raises UsageError: the environment has some, and the command line doesn't say.
    """
    variables = ", ".join(_credential_variables())
    if variables and not _has_credentials(settings) and any(_is_elsewhere(one, settings) for one in keys):
        raise UsageError(
            f"{variables}: not for the server that the command line names, which isn't the environment's; "
            "give its credentials as options (--headers= for none), or its endpoint in the environment too"
        )


def _has_credentials(settings: Mapping[str, str]) -> bool:
    return any(setting.name in settings for setting in _CREDENTIAL_SETTINGS)


def _is_elsewhere(one: KeySurvey, settings: Mapping[str, str]) -> bool:
    """Whether the command line names another server for a key than the environment does."""
    names, signal = _endpoint_settings(one), one.about.get("signal", "traces")
    here = {name: value for name, value in settings.items() if name not in names}
    origins = {_origin(without_credentials(each).export(signal).otlp.endpoint) for each in (here, settings)}
    return len(origins) > 1


def _endpoint_settings(one: KeySurvey) -> tuple[str, ...]:
    """The settings that a key's endpoint is taken from, the strongest first."""
    signal = one.about.get("signal", "traces")
    return ("endpoint",) if signal == "traces" else (f"{signal}_endpoint", "endpoint")


def _is_whole_address(endpoint: str, one: KeySurvey) -> bool:
    return display("endpoint", endpoint).partition("?")[0] == one.about.get("destination", "").partition("?")[0]


def _credential_variables() -> list[str]:
    """The variables of the environment that hold credentials."""
    names = dict.fromkeys(name for one in _CREDENTIAL_SETTINGS for name in (one.variable, *one.otel))
    return [name for name in names if os.environ.get(name, "").strip()]


def without_credentials(settings: Mapping[str, str]) -> Config:
    """Settings and the environment without credentials, which may not go together."""
    from otelagent.config import load

    names, variables = [setting.name for setting in _CREDENTIAL_SETTINGS], _credential_variables()
    return load(
        {name: value for name, value in settings.items() if name not in names},
        {name: value for name, value in os.environ.items() if name not in variables},
    )


def _origin(address: str) -> tuple[str, str | None, int | None] | None:
    """The server of an address: scheme, host and port; None if it is no address."""
    try:
        url = urlsplit(address)
        return url.scheme, url.hostname, url.port or {"http": 80, "https": 443}.get(url.scheme)
    except ValueError:
        return None


def _command(settings: Mapping[str, str]) -> str:
    given = (f"{SETTINGS_BY_NAME[name].option}={value}" for name, value in settings.items())
    return shlex.join(("otelagent", "spool", "replay", *given))


def destination_of(one: KeySurvey, config: Config) -> str | None:
    """The name of the configured destination that a key stands for, of whatever service; None for one that isn't
    configured, or for another tenant."""
    from otelagent.delivery.delivery import spool_identity
    from otelagent.delivery.spool.place import key_of

    signal = one.about.get("signal", "traces")
    for name in config.destination_names(signal):
        identity = spool_identity(config, signal, one.about, name)
        if config.export(signal, name).exporter == "otlp" and key_of(identity) == one.key:
            return name
    return None
