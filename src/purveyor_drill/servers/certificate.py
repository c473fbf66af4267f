"""A self-signed certificate for a private server."""

import subprocess
from collections.abc import Mapping
from pathlib import Path


def make_certificate(certificate: Path, key: Path, environment: Mapping[str, str]) -> None:
    """Write a certificate of ``localhost`` and 127.0.0.1 and its key (PEM), valid for 30 days, with openssl."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "30", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
