"""Certificates that are wrong in one way, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.delivery.certificates import Authority

__all__ = ["sign"]

_CONFIGURATION = """
[ca]
default_ca = ours
[ours]
new_certs_dir = {directory}
database = {directory}/index
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = {names}
"""


def sign(authority: Authority, directory: Path, names: str, *, until: str = "20990101000000Z") -> tuple[Path, Path]:
    """A certificate and its key.

    :param directory: a new one, for the files.
    :param names: as openssl's ``subjectAltName``.
    :param until: its last second, as openssl's ``-enddate``.
    """
    directory.mkdir()
    (directory / "index").touch()
    configuration = directory / "ca.cnf"
    configuration.write_text(_CONFIGURATION.format(directory=directory, names=names))
    certificate, key, request = directory / "leaf.pem", directory / "leaf.key", directory / "leaf.csr"
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=collector")
    issuer = ("-cert", str(authority.certificate), "-keyfile", str(authority.certificate.with_suffix(".key")))
    for command in (
        ("req", *new, "-keyout", str(key), "-out", str(request)),
        ("ca", "-batch", "-notext", "-config", str(configuration), *issuer, "-startdate", "20200101000000Z",
         "-enddate", until, "-in", str(request), "-out", str(certificate)),
    ):  # fmt: skip
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return certificate, key
