"""Pure parsers: from what a user gave, a Python value or a text, to the setting's value.

`spec` chooses the dialect. True is the specification's, for ``OTEL_*`` variables (its "Environment Variable
Specification" and "OpenTelemetry Protocol Exporter"); False is otelagent's own, for keywords, options and
``OTELAGENT_*``, where every doubt is an error.
"""

from __future__ import annotations

from otelagent.config.mask import Secret, is_mapping
from otelagent.struct import struct

TYPE_CHECKING = False  # see otelagent.config.settings
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otelagent.config.settings import Kind, Setting

__all__ = ["Invalid", "Parsed", "parse", "suggest"]

# Compiled at their first use, and `re` is imported at it.
_INTEGER = r"[+-]?[0-9]{1,19}"
_WITH_UNIT = r"([0-9]{1,9})\s*(ms|s|m|min|h)"
_PERCENT = r"([0-9]{1,3})\s*%"
_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000}
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110, 5.6.2
_HEADER_VALUE = r"[\t\x20-\x7e]*"  # RFC 9110, 5.5, without obs-text, which gRPC doesn't take either
_BAD_ESCAPE = r"%(?![0-9A-Fa-f]{2})"
# Fields of the token request that aren't free.
_OWN_PARAMETERS = {
    "grant_type": "it is client_credentials",
    "client_id": "use oauth2_client_id",
    "client_secret": "use oauth2_client_secret",
    "scope": "use oauth2_scopes",
}
_OWN_BOOLEANS = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


class Invalid(ValueError):
    """A value that a setting can't take.

    :param problem: what is wrong, to follow the value in a sentence.
    :param hint: the nearest valid value, or what to do.
    :param fatal: an error even from an ``OTEL_*`` variable, because going on would send data elsewhere.
    """

    def __init__(self, problem: str, hint: str = "", fatal: bool = False) -> None:
        self.problem = problem
        self.hint = hint
        self.fatal = fatal
        super().__init__(problem)


@struct(frozen=True)
class Parsed:
    """A setting's value, and what was left out of it or assumed (for a warning)."""

    value: object
    note: str = ""


def parse(setting: Setting, value: object, spec: bool) -> Parsed:
    """A setting's value from what was given. Raises `Invalid`."""
    if isinstance(value, str):
        value = value.strip()
        if not setting.path.endswith("file_path") and setting.kind not in ("certificate", "path"):
            _encodable(value)
    return _PARSERS[setting.kind](setting, value, spec)


def suggest(name: str, names: Sequence[str]) -> str:
    """The nearest of some names, or an empty text."""
    from difflib import get_close_matches  # 3 ms that only a mistake costs

    nearest = get_close_matches(name[:60], names, n=1, cutoff=0.55)
    return nearest[0] if nearest else ""


def _text(setting: Setting, value: object, spec: bool) -> Parsed:
    if not isinstance(value, str):
        raise Invalid(f"must be a text, not {_type(value)}")
    if not value:
        raise Invalid("must not be empty")
    return Parsed(value)


def _bool(setting: Setting, value: object, spec: bool) -> Parsed:
    if isinstance(value, bool):
        return Parsed(value)
    if not isinstance(value, str):
        raise Invalid(f"must be true or false, not {_type(value)}")
    word = value.lower()
    if spec:
        # "MUST be set to true only by the case-insensitive string 'true'"; anything else is false, with a warning.
        return Parsed(word == "true", "" if word in ("true", "false") else "only 'true' is true: it counts as false")
    if word not in _OWN_BOOLEANS:
        raise Invalid("must be true or false", _did_you_mean(word, tuple(_OWN_BOOLEANS)))
    return Parsed(_OWN_BOOLEANS[word])


def _int(setting: Setting, value: object, spec: bool) -> Parsed:
    low, high = setting.minimum, setting.maximum
    unit = f" of {setting.unit}" if setting.unit else ""
    problem = f"must be a whole number{unit} from {low} to {high}"
    if isinstance(value, str):
        import re

        if not re.fullmatch(_INTEGER, value):
            with_unit = re.fullmatch(_WITH_UNIT, value.lower()) if setting.unit == "ms" else None
            raise Invalid(problem, f"try {int(with_unit[1]) * _MILLISECONDS[with_unit[2]]}" if with_unit else "")
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Invalid(f"{problem}, not {_type(value)}")
    if not low <= value <= high:
        # The smallest number that is allowed is seldom a sensible one.
        usual = setting.default if isinstance(setting.default, int) else low
        raise Invalid(problem, f"try {usual if value < low else high}")
    return Parsed(value)


def _ratio(setting: Setting, value: object, spec: bool) -> Parsed:
    problem = "must be a number between 0 and 1"
    if isinstance(value, str):
        import re

        percent = re.fullmatch(_PERCENT, value)
        try:
            number = float(value)
        except ValueError:
            raise Invalid(problem, f"try {min(int(percent[1]), 100) / 100}" if percent else "") from None
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid(f"{problem}, not {_type(value)}")
    else:
        number = value
    if not 0 <= number <= 1:  # which "nan" isn't either
        raise Invalid(problem, "try 1.0" if number > 1 else "try 0.0" if number < 0 else "")
    return Parsed(float(number))


def _choice(setting: Setting, value: object, spec: bool) -> Parsed:
    if not isinstance(value, str):
        raise Invalid(f"must be one of {', '.join(setting.choices)}, not {_type(value)}")
    word = value.lower()
    if setting.path.endswith(".exporter") and "," in word:
        several = tuple(dict.fromkeys(_split(word)))
        if len(several) != 1:
            raise Invalid(
                "several exporters at once are not there yet", "name one; a collector can send to several", fatal=True
            )
        word = several[0]
    if word in setting.refused:
        raise Invalid(f"otelagent does not support {word}", setting.refused[word], fatal=True)
    return Parsed(_one_of(setting, word))


def _choices(setting: Setting, value: object, spec: bool) -> Parsed:
    found: list[str] = []
    unknown: list[str] = []
    for item in _items(value):
        try:
            found.append(_one_of(setting, item.lower()))
        except Invalid:
            if not spec:
                raise
            unknown.append(item)
    if unknown and not found:
        raise Invalid(f"none of it is one of {', '.join(setting.choices)}")
    found = list(dict.fromkeys(found))
    if "none" in found and len(found) > 1:
        raise Invalid("'none' excludes the others", "leave it out")
    note = f"{', '.join(map(repr, unknown))} left out: must be one of {', '.join(setting.choices)}" if unknown else ""
    return Parsed(tuple(name for name in found if name != "none"), note)


def _names(setting: Setting, value: object, spec: bool) -> Parsed:
    return Parsed(tuple(dict.fromkeys(_items(value))))


def _patterns(setting: Setting, value: object, spec: bool) -> Parsed:
    import re

    patterns = _items(value)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError, Warning) as error:
            raise Invalid(f"{pattern!r} is not a regular expression: {error}") from None
    return Parsed(patterns)


def _attributes(setting: Setting, value: object, spec: bool) -> Parsed:
    """Resource attributes.

    One malformed pair spoils the whole value, as the specification says ("Resource SDK", "Specifying resource
    information via an environment variable").
    """
    if is_mapping(value):
        attributes: dict[str, str] = {}
        for key, item in value.items():
            if not isinstance(key, str) or not key:
                raise Invalid(f"must have texts as keys, not {key!r}")
            if not isinstance(item, str | int | float):
                raise Invalid(f"{key!r} must be a text, a number or a boolean, not {_type(item)}")
            attributes[key] = str(item).lower() if isinstance(item, bool) else str(item)
            _encodable(key + attributes[key])
        return Parsed(attributes)
    return Parsed(dict(_pairs(value, "key=value,key2=value2", strict=True)))


def _headers(setting: Setting, value: object, spec: bool) -> Parsed:
    """Headers of the exporter (specification, "OpenTelemetry Protocol Exporter", "Specifying headers")."""
    import re

    headers: dict[str, Secret] = {}
    try:
        if is_mapping(value):
            pairs = [(name, item.reveal() if isinstance(item, Secret) else item) for name, item in value.items()]
        else:
            # A value that isn't percent-encoded is taken as it is ("Authorization=Bearer …"), as the stock SDKs do.
            pairs = _pairs(value, "name=value,name2=value2", strict=False)
        for name, item in pairs:
            if not isinstance(name, str) or not re.fullmatch(_TOKEN, name):
                raise Invalid("a header's name is malformed")  # and may hold the value: it isn't shown
            if not isinstance(item, str) or not re.fullmatch(_HEADER_VALUE, item):
                raise Invalid(f"the value of {name!r} must be a text of printable ASCII characters")
            headers[name.lower()] = Secret(item)
    except Invalid as error:
        error.fatal = True
        raise
    return Parsed(headers)


def _endpoint(setting: Setting, value: object, spec: bool) -> Parsed:
    # The rest needs the protocol, see `otelagent.config.endpoint`.
    try:
        return _text(setting, value, spec)
    except Invalid as error:
        error.fatal = True
        raise


def _path(setting: Setting, value: object, spec: bool) -> Parsed:
    """The path of a file that may come later, absolute, because it is read again and an application may change its
    directory; `os.PathLike` is taken too."""
    import os

    if not isinstance(value, str) and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise Invalid(f"must be a path, not {_type(value)}", fatal=True)
    if not value or "\0" in value:
        raise Invalid("must be the path of a file", fatal=True)
    try:
        return Parsed(os.path.abspath(value))
    except OSError:  # The current directory was removed.
        return Parsed(value)


def _certificate(setting: Setting, value: object, spec: bool) -> Parsed:
    """The path of a readable file."""
    import os

    parsed = _path(setting, value, spec)
    if not (os.path.isfile(str(parsed.value)) and os.access(str(parsed.value), os.R_OK)):
        raise Invalid("there is no readable file of that name", fatal=True)
    return parsed


def _secret(setting: Setting, value: object, spec: bool) -> Parsed:
    text = value.reveal() if isinstance(value, Secret) else value
    if not isinstance(text, str) or not text:
        raise Invalid("must be a text and not empty")
    return Parsed(Secret(text))


def _parameters(setting: Setting, value: object, spec: bool) -> Parsed:
    """Fields of a request, each of which may be a secret."""
    if is_mapping(value):
        pairs = [(name, item.reveal() if isinstance(item, Secret) else item) for name, item in value.items()]
    else:
        pairs = _pairs(value, "name=value,name2=value2", strict=True)
    for name, item in pairs:
        if not isinstance(name, str) or not name or not isinstance(item, str):
            raise Invalid("must have texts as names and values")
        if name in _OWN_PARAMETERS:
            raise Invalid(f"must not have {name!r}", _OWN_PARAMETERS[name])
        _encodable(name + item)
    return Parsed({name: Secret(item) for name, item in pairs})


def _destinations(setting: Setting, value: object, spec: bool) -> Parsed:
    # What they mean is in `otelagent.config.destinations`: it needs the loader.
    from otelagent.config.document import read_document

    document = read_document(value)
    if not is_mapping(document):
        raise Invalid(f"must be a mapping of names to destinations, not {_type(document)}")
    return Parsed(dict(document))


def _routes(setting: Setting, value: object, spec: bool) -> Parsed:
    from otelagent.config.document import read_document
    from otelagent.config.routes import read_routes

    return Parsed(read_routes(read_document(value)))


def _encodable(text: str) -> None:
    # Bytes of the environment that aren't UTF-8 come as surrogates; they would fail much later, when a request is made.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid("is not UTF-8") from None


def _one_of(setting: Setting, word: str) -> str:
    word = setting.aliases.get(word, word)
    if word not in setting.choices:
        if setting.extensions and word in _installed(setting.extensions):
            return word
        raise Invalid(f"must be one of {', '.join(setting.choices)}", _did_you_mean(word, setting.choices))
    return word


def _installed(group: str) -> frozenset[str]:
    """What installed packages add to a setting's choices; looked up for a name that is none of ours alone."""
    from importlib.metadata import entry_points

    return frozenset(entry.name for entry in entry_points(group=group))


def _did_you_mean(word: str, words: Sequence[str]) -> str:
    nearest = suggest(word, words)
    return f"did you mean {nearest!r}?" if nearest else ""


def _split(text: str) -> list[str]:
    return [item for part in text.split(",") if (item := part.strip())]


def _items(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(_split(value))
    if not isinstance(value, list | tuple | set | frozenset):
        raise Invalid(f"must be a list of texts, not {_type(value)}")
    for item in value:
        if not isinstance(item, str) or not item.strip():
            raise Invalid(f"must be a list of texts, not with {_type(item) if item != '' else 'an empty one'} in it")
    return tuple(item.strip() for item in (sorted(value) if isinstance(value, set | frozenset) else value))


def _pairs(value: object, form: str, strict: bool) -> list[tuple[str, str]]:
    """``a=b,c=d`` (W3C Baggage without properties), percent-decoded.

    `strict` refuses a broken escape, which is otherwise left as it is.
    """
    if not isinstance(value, str):
        raise Invalid(f"must be a mapping or a text {form}, not {_type(value)}")
    import re

    decoded = []
    for item in _split(value):
        key, equals, text = item.partition("=")
        if not equals or not key.strip():
            raise Invalid(f"must have the form {form}")
        if strict and (" " in key.strip() or re.search(_BAD_ESCAPE, item)):
            raise Invalid(f"must have the form {form}, percent-encoded")
        try:
            decoded.append((_unquote(key.strip()), _unquote(text.strip())))
        except UnicodeDecodeError:
            raise Invalid("its percent-encoding is not UTF-8") from None
    return decoded


def _unquote(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote

    return unquote(text, errors="strict")


def _type(value: object) -> str:
    name = type(value).__name__
    return "None" if value is None else f"an {name}" if name[0] in "aeiou" else f"a {name}"


_PARSERS: dict[Kind, Callable[[Setting, object, bool], Parsed]] = {
    "text": _text,
    "bool": _bool,
    "int": _int,
    "ratio": _ratio,
    "choice": _choice,
    "choices": _choices,
    "names": _names,
    "patterns": _patterns,
    "attributes": _attributes,
    "headers": _headers,
    "endpoint": _endpoint,
    "url": _endpoint,
    "certificate": _certificate,
    "path": _path,
    "secret": _secret,
    "parameters": _parameters,
    "destinations": _destinations,
    "routes": _routes,
}
