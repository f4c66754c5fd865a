"""What a long step says while it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from .errors import BackendError

__all__ = ["TTY_INTERVAL_S", "Progress"]

PLAIN_INTERVAL_S = 5.0
TTY_INTERVAL_S = 0.2
LOG_TAIL_LINES = 30


class Progress:
    """Says which step runs and for how long: one line rewritten on a terminal, a line every few seconds elsewhere."""

    def __init__(self, title: str, out: TextIO) -> None:
        self._title = title
        self._out = out
        self._tty = out.isatty()
        self._begin = time.monotonic()
        self._last = -PLAIN_INTERVAL_S
        self._last_step = ""

    def tick(self, step: str, detail: str = "") -> None:
        now = time.monotonic()
        if not self._tty and step == self._last_step and now - self._last < PLAIN_INTERVAL_S:
            return
        self._last, self._last_step = now, step
        self._write(f"{step}{' ' if detail else ''}{detail}", final=not self._tty)

    def done(self, text: str) -> None:
        self._write(text, final=True)

    def _write(self, text: str, *, final: bool) -> None:
        line = f"{self._title}: {text} ({_clock(time.monotonic() - self._begin)})"
        if self._tty:
            width = shutil.get_terminal_size().columns - 1
            self._out.write(f"\r\x1b[2K{line[:width]}")
        else:
            self._out.write(line)
        if final:
            self._out.write("\n")
        self._out.flush()

    def run(
        self,
        step: str,
        command: list[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        packages: int = 0,
    ) -> str:
        """Run `command`, showing `step` until it ends; returns its output, raises BackendError with the end of it.

        With `packages`, each line of output is taken for a compiled package out of so many.
        """
        with tempfile.TemporaryFile("w+", errors="replace") as log:
            process = subprocess.Popen(
                command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
            seen = lines = 0
            try:
                while True:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(TTY_INTERVAL_S)
                    if packages:
                        size = os.fstat(log.fileno()).st_size
                        lines += os.pread(log.fileno(), size - seen, seen).count(b"\n")
                        seen = size
                    if packages and lines >= packages - 1:  # the last one is the program itself
                        self.tick("linking")
                    else:
                        self.tick(step, f"{lines} of {packages} packages" if packages else "")
                    if process.returncode is not None:
                        break
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
            log.seek(0)
            output = log.read()
        if process.returncode != 0:
            self.done(f"{step}: failed")
            tail = "\n".join(output.splitlines()[-LOG_TAIL_LINES:])
            raise BackendError(f"`{' '.join(command[:3])} …` exited with {process.returncode}:\n{tail}")
        return output


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
