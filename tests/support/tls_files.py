"""Certificates for TLS on loopback, made for one test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Tls:
    """Files of a certificate authority made for one test, of the receiver and of one client."""

    ca_file: Path
    server_certificate_file: Path
    server_key_file: Path
    client_certificate_file: Path
    client_key_file: Path


def make_tls(directory: Path) -> Tls:
    """Write an authority, its certificate for 127.0.0.1 and one for a client into `directory`."""
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    client = authority.issue_cert("client@example.org")
    files = Tls(
        ca_file=directory / "ca.pem",
        server_certificate_file=directory / "server.pem",
        server_key_file=directory / "server.key",
        client_certificate_file=directory / "client.pem",
        client_key_file=directory / "client.key",
    )
    authority.cert_pem.write_to_path(str(files.ca_file))
    for certificate, certificate_file, key_file in (
        (server, files.server_certificate_file, files.server_key_file),
        (client, files.client_certificate_file, files.client_key_file),
    ):
        certificate_file.write_bytes(b"".join(b.bytes() for b in certificate.cert_chain_pems))
        certificate.private_key_pem.write_to_path(str(key_file))
    return files
