"""`linetally-agent certificates`: this gateway's OPC UA certificate, and which servers it trusts.

Decides what is shown and asked for. What is trusted is decided in `agent.trust`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from protocols.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography import x509

_DESCRIPTION = """\
Show this gateway's OPC UA certificate (it is made when there is none) and the servers' certificates: those that are
trusted, and those that were refused because nobody has accepted them yet. Compare a fingerprint with what the server
itself shows before you accept it: that is all the protection there is against a stranger in between.

examples:
  linetally-agent certificates --config agent.toml
  linetally-agent certificates --config agent.toml --accept 4f1c09ab
  linetally-agent certificates --config agent.toml --export gateway.der
      for the server's own list of trusted clients
  linetally-agent certificates --config agent.toml --renew
      a new certificate for the same key; the servers must accept it anew
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "certificates", help="OPC UA: this gateway's certificate, and which servers it trusts",
        description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the gateway's TOML file")
    parser.add_argument("--accept", metavar="DIGITS", help="trust the refused certificate whose fingerprint begins so")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write this gateway's certificate (DER) there")
    parser.add_argument("--renew", action="store_true", help="make a new certificate")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from agent.certificates import load_or_make_identity, name_of  # here: what only lists commands needs none of it
    from agent.config import load
    from agent.trust import TrustStore

    configuration = load(options.config)
    trust = TrustStore(configuration.state_folder)
    if options.accept is not None:
        accepted = trust.accept(options.accept)
        print(f'"{name_of(accepted)}" is trusted from now on; a running agent sees it at its next attempt')
        return 0
    identity = load_or_make_identity(configuration.state_folder, configuration.gateway_id, renew=options.renew)
    print(f"this gateway: {_words(identity.certificate)}")
    print(f"  ApplicationUri {identity.application_uri}")
    if options.export is not None:
        _export(options.export, identity.certificate)
        print(f"  written to {options.export}: put it among the server's trusted clients")
    for title, found in (("trusted", trust.trusted()), ("refused, not accepted yet", trust.rejected())):
        print(f"\n{title}:")
        for _, certificate in found:
            print(f"  {_words(certificate)}")
        if not found:
            print("  none")
    for path in trust.passed_over():
        print(f"\n{path}: passed over, it is no certificate (in DER or PEM; .der, .crt, .cer or .pem)")
    return 0


def _words(certificate: x509.Certificate) -> str:
    from agent.certificates import fingerprint, name_of

    return f'"{name_of(certificate)}"  {fingerprint(certificate)}  until {certificate.not_valid_after_utc:%Y-%m-%d}'


def _export(path: Path, certificate: x509.Certificate) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        path.write_bytes(certificate.public_bytes(Encoding.DER))
    except OSError as error:
        mend = "choose another place"
        raise ConfigurationError(f"cannot be written: {error.strerror}", file=str(path), mend=mend) from error
