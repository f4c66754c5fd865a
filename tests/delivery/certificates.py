"""Certificates for tests, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["Authority"]

_NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")


class Authority:
    """A certificate authority.

    :param directory: where the files are.
    :ivar certificate: its own.
    """

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self.certificate = directory / f"{name}.pem"
        self._key = directory / f"{name}.key"
        signs = ("-addext", "keyUsage=critical,keyCertSign")
        self._openssl("-subj", f"/CN={name}", *signs, "-keyout", str(self._key), "-out", str(self.certificate))

    def sign(self, name: str) -> tuple[Path, Path]:
        """A certificate for this machine, with `name` as its common name, and its key."""
        certificate, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        names = ("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-addext", "basicConstraints=CA:FALSE")
        signed = ("-CA", str(self.certificate), "-CAkey", str(self._key))
        self._openssl("-subj", f"/CN={name}", *names, *signed, "-keyout", str(key), "-out", str(certificate))
        return certificate, key

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", "req", "-x509", *_NEW, *arguments], check=True, capture_output=True)
