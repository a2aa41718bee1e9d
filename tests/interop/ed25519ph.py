"""Verifies Ed25519ph, which `cryptography` does not have. Slow, of public data only.

Source: RFC 8032 §5.1, and §2 for dom2.
"""

import hashlib

from cryptography.exceptions import InvalidSignature

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def add(one, other):
    (x1, y1), (x2, y2) = one, other
    product = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    return x, (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P


def multiply(scalar, point):
    sum_ = (0, 1)
    while scalar:
        if scalar & 1:
            sum_ = add(sum_, point)
        point, scalar = add(point, point), scalar >> 1
    return sum_


def decode(text):
    number = int.from_bytes(text, "little")
    sign, y = number >> 255, number % 2**255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or x * x % P != square:
        raise InvalidSignature
    return (P - x if x & 1 != sign else x), y


BASE = decode((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def verify_prehashed(public, signature, prehash):
    """Raises InvalidSignature unless `signature` is one of the message with this SHA-512, without a context."""
    if len(signature) != 64:
        raise InvalidSignature
    scalar = int.from_bytes(signature[32:], "little")
    domain = b"SigEd25519 no Ed25519 collisions\x01\x00"
    hashed = hashlib.sha512(domain + signature[:32] + public + prehash).digest()
    challenge = int.from_bytes(hashed, "little") % ORDER
    expected = add(decode(signature[:32]), multiply(challenge, decode(public)))
    if scalar >= ORDER or multiply(scalar, BASE) != expected:
        raise InvalidSignature
