"""A PAdES signature over the pages, by the certificate of whoever carried out the audit.

The signed file begins with the unsigned one, byte for byte, so that anybody can make the report again and
compare. The signature itself holds the time it was made at, by this machine's clock, and differs each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

FIELD: Final = "AuditorSignature"


class CannotSign(ValueError):
    """The key or its passphrase cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Signing:
    """Files that hold a key with its certificate chain (PKCS#12) and the passphrase that opens it."""

    pkcs12: Path
    passphrase_file: Path


def read_signer(signing: Signing) -> Any:
    """The signer in the files.

    Raises:
        CannotSign: they cannot be read, or the passphrase does not open the key.
    """
    from pyhanko.sign import signers

    sealed = _content(signing.pkcs12)
    passphrase = _content(signing.passphrase_file).rstrip(b"\r\n") or None
    try:
        key, certificate, _ = load_key_and_certificates(sealed, passphrase)
    except ValueError as cause:
        why = f"no PKCS#12 file that the passphrase in {signing.passphrase_file} opens"
        raise CannotSign(f"{signing.pkcs12}: {why}") from cause
    if key is None or certificate is None:
        raise CannotSign(f"{signing.pkcs12}: it holds no key with its certificate")
    return signers.SimpleSigner.load_pkcs12_data(sealed, other_certs=[], passphrase=passphrase)


def sign(pdf: bytes, signing: Signing) -> bytes:
    """``pdf`` with a signature appended that allows no change after it (ETSI EN 319 142-1, level B-B).

    Raises:
        CannotSign: the key cannot be used.
    """
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.sign import signers
    from pyhanko.sign.fields import MDPPerm, SigSeedSubFilter

    about = signers.PdfSignatureMetadata(
        field_name=FIELD,
        md_algorithm="sha256",
        subfilter=SigSeedSubFilter.PADES,
        certify=True,
        docmdp_permissions=MDPPerm.NO_CHANGES,
    )
    signer = read_signer(signing)
    signed: bytes = signers.sign_pdf(IncrementalPdfFileWriter(BytesIO(pdf)), about, signer=signer).getvalue()
    return signed


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as cause:
        raise CannotSign(f"{path}: {cause.strerror}") from cause
