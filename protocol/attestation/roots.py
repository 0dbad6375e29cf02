"""The vendors' roots of trust, pinned by fingerprint; chains bring the certificates.

Each can be recomputed from what its vendor publishes:

- Intel: SHA-256 of the DER of "Intel SGX Root CA" (SGX PCK Certificate and CRL Profile), from
  https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer
- AMD: SHA-256 of the SubjectPublicKeyInfo of the ARK of each product, the last certificate of
  https://kdsintf.amd.com/vcek/v1/{Milan,Genoa,Turin}/cert_chain (57230); VLEK chains end in the same keys
- AWS: SHA-256 of the DER of the Nitro Enclaves root G1, as the user guide prints it ("Verifying the root of
  trust"), in https://aws-nitro-enclaves.amazonaws.com/AWS_NitroEnclaves_Root-G1.zip

A fingerprint is a constant here and never a setting. A test that needs another root hands its own
:class:`Roots` to the verifier: nothing but :func:`production_roots` is trusted by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Product(StrEnum):
    """A line of AMD processors, by the name in its certificates. Siena and Bergamo carry Genoa's."""

    MILAN = "Milan"
    GENOA = "Genoa"
    TURIN = "Turin"


INTEL_SGX_ROOT_SHA256: Final = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
AMD_ARK_SPKI_SHA256: Final[Mapping[Product, str]] = {
    Product.MILAN: "9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9",
    Product.GENOA: "429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831",
    Product.TURIN: "4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08",
}
AWS_NITRO_ROOT_G1_SHA256: Final = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"


@dataclass(frozen=True, slots=True)
class Roots:
    """Fingerprints in lower-case hexadecimal: Intel's and AWS's of the certificate, AMD's of the key."""

    intel: str
    amd: Mapping[Product, str]
    nitro: str


def production_roots() -> Roots:
    """The vendors' roots."""
    return Roots(INTEL_SGX_ROOT_SHA256, AMD_ARK_SPKI_SHA256, AWS_NITRO_ROOT_G1_SHA256)
