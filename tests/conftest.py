from __future__ import annotations

import signal
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import settings

# How long an example takes is the machine's matter.
settings.register_profile("otelagent")
settings.load_profile("otelagent")

# A shell's background job ignores Ctrl-C, and so would every program that a test starts and ends by it.
signal.signal(signal.SIGINT, signal.default_int_handler)

_numbers = count()


@pytest.fixture(autouse=True, scope="session")
def outer_state_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What fixtures of a wider scope start has no place in the user's own directories either."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))
        environment.delenv("XDG_RUNTIME_DIR", raising=False)
        yield


@pytest.fixture(autouse=True)
def state_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a state directory of its own: what one can't deliver, the next must not send."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / f"state-{next(_numbers)}"))
