"""The hardware of made SEV-SNP machines: its chain of certificates, and the reports that it signs.

Names, extensions and algorithms are AMD's, the keys are not: who accepts these reports was told to believe this root.

Source: AMD SEV-SNP ABI (publication 56860) §7.3; AMD VCEK specification (publication 57230) §3.
"""

import copy
import datetime
import os
import socket
import struct
import threading
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

PSS = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
# Boot loader, TEE, SNP, microcode of a Genoa.
LEVELS = (9, 0, 23, 72)
MEASUREMENT = bytes([0x3E]) * 48
CHIP_ID = bytes([0xC1]) * 64
SIGNED_BYTES = 0x2A0
REPORT_BYTES = 0x4A0
DEBUG = 1 << 19
# GHCB specification (publication 56421) §4.1.8.1.
TABLE = {
    "63da758d-e664-4564-adc5-f4b93be8accd": "vcek",
    "4ab7b379-bbac-4fe4-a02f-05aef327c782": "ask",
}


class Chain:
    """ARK, ASK, and the VCEK of one chip at one firmware level."""

    def __init__(self, levels=LEVELS):
        made = lambda: rsa.generate_private_key(65537, 4096)
        self.ark_key, self.ask_key, self.vcek_key = made(), made(), ec.generate_private_key(ec.SECP384R1())
        self.ark = issued("ARK-Genoa", self.ark_key, "ARK-Genoa", self.ark_key, 1)
        self.ask = issued("SEV-Genoa", self.ask_key, "ARK-Genoa", self.ark_key, 2)
        self.vcek = self.leaf(levels)

    def at(self, levels):
        """The same chip with other firmware."""
        other = copy.copy(self)
        other.vcek = self.leaf(levels)
        return other

    def leaf(self, levels):
        boot, tee, snp, microcode = levels
        own = {"1": der(2, b"\0"), "2": der(0x16, b"Genoa"), "4": CHIP_ID}
        for place, level in {"3.1": boot, "3.2": tee, "3.3": snp, "3.8": microcode}.items():
            own[place] = der(2, bytes([level] if level < 0x80 else [0, level]))
        return issued("SEV-VCEK", self.vcek_key, "SEV-Genoa", self.ask_key, 0, own)

    def revocations(self):
        """A list in force, of the root's, that names nobody here."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(named("ARK-Genoa"))
        now = datetime.datetime.now(datetime.UTC)
        builder = builder.last_update(now - datetime.timedelta(days=1)).next_update(now + datetime.timedelta(days=30))
        return builder.sign(self.ark_key, hashes.SHA384(), rsa_padding=PSS)

    def report(self, report_data, levels=LEVELS, policy=0x3001F, measurement=MEASUREMENT):
        report = bytearray(REPORT_BYTES)
        boot, tee, snp, microcode = levels
        tcb = bytes([boot, tee, 0, 0, 0, 0, snp, microcode])
        # Version 3, the platform, the key that signs (VCEK), the processor.
        for offset, form, value in [(0, "<I", 3), (8, "<Q", policy), (0x34, "<I", 1), (0x40, "<Q", 0x25)]:
            struct.pack_into(form, report, offset, value)
        put = {0x50: report_data, 0x90: measurement, 0x140: os.urandom(32), 0x160: b"\xff" * 32, 0x1A0: CHIP_ID}
        put |= {offset: tcb for offset in (0x38, 0x180, 0x1E0, 0x1F0)} | {0x188: bytes([0x19, 0x11, 0x01])}
        for offset, value in put.items():
            report[offset : offset + len(value)] = value
        signature = self.vcek_key.sign(bytes(report[:SIGNED_BYTES]), ec.ECDSA(hashes.SHA384()))
        for place, part in enumerate(decode_dss_signature(signature)):
            offset = SIGNED_BYTES + 72 * place
            report[offset : offset + 48] = part.to_bytes(48, "little")
        return bytes(report)

    def table(self):
        """The certificates as a host gives them."""
        offset, heads, bodies = 24 * (len(TABLE) + 1), b"", b""
        for guid, name in TABLE.items():
            body = getattr(self, name).public_bytes(serialization.Encoding.DER)
            heads += uuid.UUID(guid).bytes_le + struct.pack("<II", offset + len(bodies), len(body))
            bodies += body
        return heads + bytes(24) + bodies


def der(tag, contents):
    return bytes([tag, len(contents)]) + contents


def named(common):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


def issued(subject, key, issuer, issuer_key, serial, own=None):
    """A certificate; `own` are AMD's extensions, by what follows 1.3.6.1.4.1.3704.1 in their names."""
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(named(issuer), named(subject), key.public_key(), serial or 1)
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=30))
    if own is None:
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
    for place, value in (own or {}).items():
        oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.3704.1.{place}")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
    return builder.sign(issuer_key, hashes.SHA384(), rsa_padding=PSS)


class Hardware:
    """Answers test machines that ask for reports; `sign` makes the report of 64 bytes. Keeps all that it gave."""

    def __init__(self, chain, sign=None):
        self.chain, self.sign, self.given = chain, sign or chain.report, []

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def serve(self):
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            with stream:
                asked = stream.recv(64, socket.MSG_WAITALL)
                report = self.sign(asked)
                self.given.append((asked, report))
                for blob in (report, self.chain.table()):
                    stream.sendall(struct.pack(">I", len(blob)) + blob)
