"""Evidence of any content, under roots that exist in these tests alone.

Nothing here is recorded: quotes, reports and documents are laid out by their specifications and signed by
keys made when a factory is. A verifier takes them only where it is handed the factory's roots.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding

from sealtrace.protocol.attestation.certificates import fingerprint, key_fingerprint
from sealtrace.protocol.attestation.evidence import DcapCollateral, Evidence, Kind, SnpCollateral
from sealtrace.protocol.attestation.roots import Product, Roots

NOW = 1_800_000_000
DAY = 86_400
NOBODY = Roots(intel="00" * 32, amd={}, nitro="00" * 32)


def flipped(data, bit):
    """``data`` with one bit changed."""
    altered = bytearray(data)
    altered[bit // 8] ^= 1 << bit % 8
    return bytes(altered)


def moment(seconds):
    return datetime.fromtimestamp(seconds, UTC)


def name(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


@dataclass
class Authority:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: object

    def pem(self):
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def der(self):
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def options(self):
        """How it signs: RSA as AMD's do, ECDSA so that the same root comes out the same."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            return {"rsa_padding": padding.PSS(padding.MGF1(SHA384()), salt_length=48)}
        return {"ecdsa_deterministic": True}

    @property
    def hash(self):
        small = isinstance(self.key, ec.EllipticCurvePrivateKey) and self.key.curve.name == "secp256r1"
        return SHA256() if small else SHA384()


def issue(
    title,
    key,
    by=None,
    *,
    authority=True,
    signs=None,
    path_length=None,
    serial=None,
    first=NOW - DAY,
    last=NOW + 30 * DAY,
    extensions=(),
):
    """A certificate of ``key``, by the authority ``by`` or by itself."""
    issuer = by or Authority(None, key)
    issuer_name = by.certificate.subject if by else name(title)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(title))
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(moment(first))
        .not_valid_after(moment(last))
        .add_extension(x509.BasicConstraints(authority, path_length), critical=True)
        .add_extension(usage(authority, not authority if signs is None else signs), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
    )
    for oid, value in extensions:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(unknown, critical=False)
    return Authority(builder.sign(issuer.key, issuer.hash, **issuer.options), key)


def usage(authority, signs):
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def revocations(by, revoked=(), first=NOW - DAY, last=NOW + 30 * DAY):
    """A revocation list of the authority ``by``, in DER."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(by.certificate.subject)
        .last_update(moment(first))
        .next_update(moment(last))
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()), critical=False
        )
    )
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(moment(first)).build())
    return builder.sign(by.key, by.hash, **by.options).public_bytes(Encoding.DER)


def p256():
    return ec.generate_private_key(ec.SECP256R1())


def p384():
    return ec.generate_private_key(ec.SECP384R1())


NODE = ec.derive_private_key(0x5EA1, ec.SECP256R1())
"""A node's TLS key, with which it signs software evidence."""


def raw_signature(key, data, algorithm, size, order="big"):
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(algorithm)))
    return r.to_bytes(size, order) + s.to_bytes(size, order)


def der(tag, content):
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes(2, "big").lstrip(b"\0")
    return bytes([tag, 0x80 | len(size)]) + size + content


def der_oid(dotted):
    first, second, *rest = map(int, dotted.split("."))
    content = bytearray([first * 40 + second])
    for arc in rest:
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | arc & 0x7F)
        content += bytes(reversed(groups))
    return der(0x06, bytes(content))


def der_integer(value):
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


NODE_CERTIFICATE = issue("node", NODE, authority=False, serial=1).der()


# --- DCAP: SGX and TDX ------------------------------------------------------------------------------------

SGX_EXTENSION = "1.2.840.113741.1.13.1"
FMSPC, PCE_ID, QE_SIGNER = bytes.fromhex("00906ea10000"), bytes(2), hashlib.sha256(b"qe signer").digest()
INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
SEPT_VE_DISABLE = 1 << 28
SGX_OFFSETS = {"attributes": 48, "mr_enclave": 64, "mr_signer": 128, "isv_svn": 258, "report_data": 320}
TDX_OFFSETS = {
    "tee_tcb_svn": 0,
    "mr_seam": 16,
    "mr_signer_seam": 64,
    "td_attributes": 120,
    "mr_td": 136,
    "mr_config_id": 184,
    "rt_mr0": 328,
    "rt_mr1": 376,
    "rt_mr2": 424,
    "rt_mr3": 472,
    "report_data": 520,
    "mr_service_td": 600,  # version 5, TD 1.5
}


def pck_extension(smt=False, dynamic=False, cached=False):
    def entry(arc, value):
        return der(0x30, der_oid(f"{SGX_EXTENSION}.{arc}") + value)

    def flag(arc, value):
        return entry(arc, der(0x01, b"\xff" if value else b"\0"))

    components = b"".join(entry(f"2.{each}", der_integer(2)) for each in range(1, 17))
    tcb = components + entry("2.17", der_integer(13)) + entry("2.18", der(0x04, bytes([2] * 16)))
    configuration = flag("7.1", dynamic) + flag("7.2", cached) + flag("7.3", smt)
    return der(
        0x30,
        entry(1, der(0x04, bytes(range(16))))
        + entry(2, der(0x30, tcb))
        + entry(3, der(0x04, PCE_ID))
        + entry(4, der(0x04, FMSPC))
        + entry(5, der(0x0A, b"\x01"))
        + entry(6, der(0x04, bytes(16)))
        + entry(7, der(0x30, configuration)),
    )


@dataclass
class DcapFactory:
    """A root, a platform under it, and what an Intel of this factory would publish of it."""

    status: str = "UpToDate"
    qe_status: str = "UpToDate"
    advisories: tuple[str, ...] = ()
    evaluation: int = 17
    issued: int = NOW - DAY
    next_update: int = NOW + 29 * DAY
    smt: bool = False
    dynamic: bool = False
    cached: bool = False
    revoke_pck: bool = False
    revoke_ca: bool = False
    pck_last: int = NOW + 30 * DAY
    keys: dict = field(default_factory=lambda: {each: p256() for each in ("root", "ca", "pck", "tcb", "att")})

    def but(self, **changes):
        """The same keys and roots, one thing different."""
        return replace(self, **changes)

    @cached_property
    def root(self):
        return issue("Intel SGX Root CA", self.keys["root"], serial=1)

    @cached_property
    def ca(self):
        return issue("Intel SGX PCK Platform CA", self.keys["ca"], self.root, path_length=0, serial=2)

    @cached_property
    def pck(self):
        extension = (SGX_EXTENSION, pck_extension(self.smt, self.dynamic, self.cached))
        return issue(
            "Intel SGX PCK Certificate",
            self.keys["pck"],
            self.ca,
            authority=False,
            serial=3,
            last=self.pck_last,
            extensions=[extension],
        )

    @cached_property
    def tcb_signer(self):
        return issue("Intel SGX TCB Signing", self.keys["tcb"], self.root, authority=False, serial=4)

    @property
    def roots(self):
        return replace(NOBODY, intel=fingerprint(self.root.certificate))

    def collateral(self, kind):
        tcb, qe = self._signed(self.tcb_info(kind)), self._signed(self.qe_identity(kind))
        signers = self.tcb_signer.pem() + self.root.pem()
        return DcapCollateral(
            pck_crl_issuer_chain=self.ca.pem() + self.root.pem(),
            root_ca_crl=revocations(self.root, [self.ca] if self.revoke_ca else []),
            pck_crl=revocations(self.ca, [self.pck] if self.revoke_pck else []),
            tcb_info_issuer_chain=signers,
            tcb_info=tcb[0],
            tcb_info_signature=tcb[1],
            qe_identity_issuer_chain=signers,
            qe_identity=qe[0],
            qe_identity_signature=qe[1],
        )

    def tcb_info(self, kind):
        tcb = {"sgxtcbcomponents": [{"svn": 1}] * 16, "pcesvn": 1}
        info = {
            "id": "TDX" if kind is Kind.TDX else "SGX",
            "version": 3,
            **self._dates(),
            "fmspc": FMSPC.hex().upper(),
            "pceId": PCE_ID.hex(),
            "tcbType": 0,
            "tcbEvaluationDataNumber": self.evaluation,
        }
        if kind is Kind.TDX:
            tcb["tdxtcbcomponents"] = [{"svn": 0}] * 16
            module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "ff" * 8}
            info["tdxModule"] = module
            levels = [{"tcb": {"isvsvn": 0}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "UpToDate"}]
            info["tdxModuleIdentities"] = [{"id": "TDX_01", **module, "tcbLevels": levels}]
        level = {"tcb": tcb, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": self.status}
        if self.advisories:
            level["advisoryIDs"] = list(self.advisories)
        return {**info, "tcbLevels": [level]}

    def qe_identity(self, kind):
        level = {"tcb": {"isvsvn": 1}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": self.qe_status}
        return {
            "id": "TD_QE" if kind is Kind.TDX else "QE",
            "version": 2,
            **self._dates(),
            "tcbEvaluationDataNumber": self.evaluation,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": "11" + "00" * 15,
            "attributesMask": "FB" + "FF" * 7 + "00" * 8,
            "mrsigner": QE_SIGNER.hex().upper(),
            "isvprodid": 1,
            "tcbLevels": [level],
        }

    def quote(self, kind=Kind.SGX, version=None, **patch):
        """A quote whose report has the given bytes at the names of ``SGX_OFFSETS`` or ``TDX_OFFSETS``."""
        version = version or (4 if kind is Kind.TDX else 3)
        tee = 0x81 if kind is Kind.TDX else 0
        header = struct.pack("<HHI", version, 2, tee) + bytes(4) + INTEL_QE_VENDOR + bytes(20)
        signed = header + self._body(kind, version, patch)
        numbers = self.keys["att"].public_key().public_numbers()
        public = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
        authentication = bytes(range(32))
        qe = self._qe_report(public + authentication)
        pem = (self.pck.pem() + self.ca.pem() + self.root.pem()).encode() + b"\0"
        certified = qe + raw_signature(self.keys["pck"], qe, SHA256(), 32)
        certified += struct.pack("<H", 32) + authentication + struct.pack("<HI", 5, len(pem)) + pem
        if version > 3:
            certified = struct.pack("<HI", 6, len(certified)) + certified
        signature = raw_signature(self.keys["att"], signed, SHA256(), 32) + public + certified
        return signed + struct.pack("<I", len(signature)) + signature

    def evidence(self, kind=Kind.SGX, events=(), version=None, **patch):
        return Evidence(kind, self.quote(kind, version, **patch), tuple(events))

    def _body(self, kind, version, patch):
        if kind is Kind.SGX:
            body, offsets = bytearray(384), SGX_OFFSETS
            patch = {"attributes": struct.pack("<QQ", 0x5, 0xE7), **patch}
            body[0:16] = bytes([2] * 16)
        else:
            body, offsets = bytearray(648 if version == 5 else 584), TDX_OFFSETS
            patch = {"td_attributes": struct.pack("<Q", SEPT_VE_DISABLE), "tee_tcb_svn": b"\x02\x01", **patch}
        for where, value in patch.items():
            body[offsets[where] : offsets[where] + len(value)] = value
        if version < 5:
            return bytes(body)
        return struct.pack("<HI", 3 if kind is Kind.TDX else 1, len(body)) + bytes(body)

    def _qe_report(self, bound):
        report = bytearray(384)
        report[0:16] = bytes([2] * 16)
        report[48:64] = struct.pack("<QQ", 0x15, 0xE7)
        report[128:160] = QE_SIGNER
        struct.pack_into("<HH", report, 256, 1, 8)
        report[320:352] = hashlib.sha256(bound).digest()
        return bytes(report)

    def _dates(self):
        def text(seconds):
            return moment(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")

        return {"issueDate": text(self.issued), "nextUpdate": text(self.next_update)}

    def _signed(self, value):
        text = json.dumps(value, separators=(",", ":"))
        return text, raw_signature(self.keys["tcb"], text.encode(), SHA256(), 32)


# --- AMD SEV-SNP ------------------------------------------------------------------------------------------

AMD = "1.3.6.1.4.1.3704.1."
TCB_PLACES = {
    Product.MILAN: {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7},
    Product.GENOA: {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7},
    Product.TURIN: {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7},
}
TCB_ARCS = {"bootloader": "3.1", "tee": "3.2", "snp": "3.3", "microcode": "3.8", "fmc": "3.9"}
VERSIONS = {"bootloader": 4, "tee": 1, "snp": 22, "microcode": 213, "fmc": 2}
SNP_OFFSETS = {
    "version": 0x000,
    "policy": 0x008,
    "vmpl": 0x030,
    "algorithm": 0x034,
    "signer": 0x048,
    "reserved": 0x04C,
    "report_data": 0x050,
    "measurement": 0x090,
    "host_data": 0x0C0,
    "reported_tcb": 0x180,
    "chip_id": 0x1A0,
}
POLICY = 1 << 17


@dataclass
class SnpFactory:
    """A root of one product line and a processor's key under it, the processor's own or its cloud's."""

    product: Product = Product.MILAN
    vlek: bool = False
    product_name: str | None = None
    bare_chip_id: bool = True
    chip: bytes | None = None
    bootloader_extension: bytes | None = None
    vek_last: int = NOW + 30 * DAY
    common_name: str | None = None
    ask_name: str | None = None
    keys: dict = field(
        default_factory=lambda: {
            "ark": rsa.generate_private_key(65537, 2048),  # AMD's have 4096 bits, which take seconds to make
            "ask": rsa.generate_private_key(65537, 2048),
            "vek": p384(),
        }
    )

    def but(self, **changes):
        return replace(self, **changes)

    @cached_property
    def ark(self):
        return issue(f"ARK-{self.product}", self.keys["ark"], serial=65536)

    @cached_property
    def ask(self):
        title = self.ask_name or f"SEV-{'VLEK-' if self.vlek else ''}{self.product}"
        return issue(title, self.keys["ask"], self.ark, path_length=0, serial=65537)

    @property
    def chip_id(self):
        return self.chip or bytes(range(1, 9 if self.product is Product.TURIN else 65))

    @cached_property
    def vek(self):
        word = self.product_name or f"{self.product}-B0"
        extensions = [(AMD + "2", der(0x16, word.encode()))]
        values = {each: der_integer(VERSIONS[each]) for each in self.tcb_places}
        if self.bootloader_extension is not None:
            values["bootloader"] = self.bootloader_extension
        extensions += [(AMD + TCB_ARCS[each], value) for each, value in values.items()]
        if not self.vlek:
            extensions.append((AMD + "4", self.chip_id if self.bare_chip_id else der(0x04, self.chip_id)))
        title = self.common_name or ("SEV-VLEK" if self.vlek else "SEV-VCEK")
        return issue(
            title, self.keys["vek"], self.ask, authority=False, last=self.vek_last, extensions=extensions
        )

    @property
    def tcb_places(self):
        return TCB_PLACES[self.product]

    @property
    def roots(self):
        return replace(NOBODY, amd={self.product: key_fingerprint(self.ark.certificate)})

    def collateral(self, crl=True, revoked=False):
        listed = revocations(self.ark, [self.ask] if revoked else []) if crl else None
        return SnpCollateral(self.vek.der(), (self.ask.pem() + self.ark.pem()).encode(), listed)

    def report(self, **patch):
        """A report that has the given bytes at the names of ``SNP_OFFSETS``."""
        report, tcb = bytearray(0x4A0), bytearray(8)
        for each, place in self.tcb_places.items():
            tcb[place] = VERSIONS[each]
        patch = {
            "version": struct.pack("<I", 3),
            "policy": struct.pack("<Q", POLICY),
            "algorithm": struct.pack("<I", 1),
            "signer": struct.pack("<I", 1 << 2 if self.vlek else 0),
            "reported_tcb": bytes(tcb),
            "chip_id": self.chip_id,
            **patch,
        }
        for where, value in patch.items():
            report[SNP_OFFSETS[where] : SNP_OFFSETS[where] + len(value)] = value
        report[0x2A0:0x330] = raw_signature(self.keys["vek"], bytes(report[:0x2A0]), SHA384(), 72, "little")
        return bytes(report)

    def evidence(self, events=(), **patch):
        return Evidence(Kind.SEV_SNP, self.report(**patch), tuple(events))


# --- AWS Nitro --------------------------------------------------------------------------------------------


@dataclass
class NitroFactory:
    """A root, two authorities and an enclave's short-lived key under it."""

    leaf_last: int = NOW + 3 * 3600
    zonal_is_authority: bool = True
    leaf_is_authority: bool = False
    leaf_signs: bool = True
    keys: dict = field(default_factory=lambda: {each: p384() for each in ("root", "zonal", "host", "leaf")})

    def but(self, **changes):
        return replace(self, **changes)

    @cached_property
    def root(self):
        return issue("aws.nitro-enclaves", self.keys["root"], serial=1)

    @cached_property
    def zonal(self):
        return issue("zonal", self.keys["zonal"], self.root, authority=self.zonal_is_authority)

    @cached_property
    def host(self):
        return issue("host", self.keys["host"], self.zonal, path_length=0)

    @cached_property
    def leaf(self):
        authority, signs = self.leaf_is_authority, self.leaf_signs
        return issue(
            "enclave", self.keys["leaf"], self.host, authority=authority, signs=signs, last=self.leaf_last
        )

    @property
    def roots(self):
        return replace(NOBODY, nitro=fingerprint(self.root.certificate))

    def document(self, *, protected=None, unprotected=None, tag=False, **patch):
        """A document with the given fields."""
        pcrs = {number: bytes(48) for number in range(16)} | {0: bytes([7] * 48)}
        fields = {
            "module_id": "i-0-enc0",
            "digest": "SHA384",
            "timestamp": NOW * 1000,
            "pcrs": pcrs,
            "certificate": self.leaf.der(),
            "cabundle": [self.root.der(), self.zonal.der(), self.host.der()],
            "public_key": None,
            "user_data": bytes(64),
            "nonce": None,
            **patch,
        }
        payload = cbor2.dumps({each: value for each, value in fields.items() if value is not ...})
        head = cbor2.dumps({1: -35} if protected is None else protected)
        signed = cbor2.dumps(["Signature1", head, b"", payload])
        parts = [head, unprotected or {}, payload, raw_signature(self.keys["leaf"], signed, SHA384(), 48)]
        return (b"\xd2" if tag else b"") + cbor2.dumps(parts)

    def evidence(self, events=(), **patch):
        return Evidence(Kind.NITRO, self.document(**patch), tuple(events))
