"""Whether an ed25519 signature fits (RFC 8032, section 5.1.7), for boards that have no library for it.

Nothing secret is handled here, so nothing need take the same time. A signature is refused where its second half is not
below the group's order, and a key or point that is not written in its one way. Standard library only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_1: Final = pow(2, (_P - 1) // 4, _P)

Point = tuple[int, int, int, int]  # extended coordinates: x = X/Z, y = Y/Z, xy = T/Z


def fits(key: bytes, signature: bytes, message: Iterable[bytes]) -> bool:
    """Whether `signature` is that of `message`, in pieces, by the holder of the public `key`."""
    if len(key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    commitment, scalar = signature[:32], int.from_bytes(signature[32:], "little")
    public = _decoded(key)
    if public is None or scalar >= _ORDER:
        return False
    digest = hashlib.sha512(commitment + key)
    for piece in message:
        digest.update(piece)
    challenge = int.from_bytes(digest.digest(), "little") % _ORDER
    x, y, z, t = _times(challenge, public)
    return _encoded(_sum(_times(scalar, _BASE), (-x % _P, y, z, -t % _P))) == commitment


def _sum(a: Point, b: Point) -> Point:
    p, q = (a[1] - a[0]) * (b[1] - b[0]) % _P, (a[1] + a[0]) * (b[1] + b[0]) % _P
    r, s = 2 * a[3] * b[3] * _D % _P, 2 * a[2] * b[2] % _P
    e, f, g, h = q - p, s - r, s + r, q + p
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(scalar: int, point: Point) -> Point:
    found: Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            found = _sum(found, point)
        point = _sum(point, point)
        scalar >>= 1
    return found


def _encoded(point: Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _decoded(data: bytes) -> Point | None:
    """None: no point of the curve, or not written in its one way."""
    number = int.from_bytes(data, "little")
    y, sign = number & (2**255 - 1), number >> 255
    x = _x_of(y, sign) if y < _P else None
    return None if x is None else (x, y, 1, x * y % _P)


def _x_of(y: int, sign: int) -> int | None:
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT_OF_MINUS_1 % _P
    if (x * x - square) % _P or (x == 0 and sign):
        return None
    return x if x & 1 == sign else _P - x


_BY: Final = 4 * pow(5, -1, _P) % _P
_BX: Final = _x_of(_BY, 0) or 0
_BASE: Final[Point] = (_BX, _BY, 1, _BX * _BY % _P)
