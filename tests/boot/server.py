"""Key servers as machines know them."""

import base64
import dataclasses
import datetime
import os
import socket
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# The host, as a machine sees it that QEMU gives a network.
HOST = "10.0.2.2"


@dataclasses.dataclass
class Enrolled:
    """A machine: its id, and the secret of its volume."""

    id: str
    secret: bytes


class Away:
    """A server that is not there: its port is taken, and nothing listens."""

    def __init__(self):
        self.reserved = socket.socket()
        self.reserved.bind(("127.0.0.1", 0))
        self.boot_port = self.reserved.getsockname()[1]
        self.deployment = str(uuid.uuid4())
        self.release_key = base64.b64encode(os.urandom(32)).decode()
        self.ca = authority()

    def enrol(self):
        return Enrolled(str(uuid.uuid4()), os.urandom(32))

    def prepared(self, enrolled, disk):
        pass


def authority():
    """A CA that nobody has the key of, as PEM."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody's CA")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
