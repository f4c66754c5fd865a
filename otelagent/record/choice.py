"""Which engine records: the choice between those that are installed, by the setting `engine`."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from otelagent.environment import SDK_VARIABLES, hidden
from otelagent.errors import ConfigError

if TYPE_CHECKING:
    from otelagent.config import Config
    from otelagent.record.engine import Deliver, Engine, FlushDelivery, LedgerPort

__all__ = ["open_engine"]


def open_engine(
    config: Config, ledger: LedgerPort, deliver: Deliver, *, flush_delivery: FlushDelivery | None = None
) -> Engine:
    """Opens the engine that the configuration asks for. This is what imports the SDK; nothing before it does.

    :param ledger: the ledger of the traces signal.
    :param deliver: gets each encoded request.
    :param flush_delivery: continues `TracerProvider.force_flush()` behind `deliver`, so that a user who calls the
        OpenTelemetry API alone gets a truthful answer; `Engine.flush` doesn't use it.
    :raises ConfigError: the `native` engine is asked for and missing; a sampler is unknown or can't be built.
    """
    absence = _native_absence()
    if config.engine == "native" and absence:
        raise ConfigError(
            "engine",
            "native",
            str(config.sources.get("engine", "the configuration")),
            absence,
            "use 'auto', which takes the sdk engine where native is missing, or 'sdk'",
        )

    with hidden(*SDK_VARIABLES):
        from otelagent.record.sdk import SdkEngine

    reason = "engine is set to sdk" if config.engine == "sdk" else f"engine is auto and {absence}"
    return SdkEngine(config, ledger, deliver, reason=reason, flush_delivery=flush_delivery)


def _native_absence() -> str | None:
    # The native engine has its own distribution; this one learns to drive it when that exists.
    if importlib.util.find_spec("otelagent_native") is None:
        return "the distribution otelagent-native is not installed"
    return "this version of otelagent can't drive the installed otelagent-native yet"
