"""The verifier that boards get: RFC 8032's own vectors, a library's signatures, and everything that must not pass."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.install import ed25519

# Section 7.1: public key, message, signature.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
        "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]
ORDER = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_the_vectors_of_the_standard_fit_and_no_bit_of_them_may_change(key: str, message: str, signature: str) -> None:
    parts = [bytes.fromhex(part) for part in (key, signature, message)]
    assert ed25519.fits(parts[0], parts[1], [parts[2]])
    assert ed25519.fits(parts[0], parts[1], [parts[2][:1], b"", parts[2][1:]]), "in pieces"
    for which, part in enumerate(parts):
        for bit in range(0, 8 * len(part), 37):
            changed = bytearray(part)
            changed[bit // 8] ^= 1 << bit % 8
            others = [*parts[:which], bytes(changed), *parts[which + 1 :]]
            assert not ed25519.fits(others[0], others[1], [others[2]])


def says(key: bytes, signature: bytes, message: bytes) -> bool:
    """The library's verdict."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=300), st.integers(0, 95), st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_it_says_what_the_library_says(seed: bytes, message: bytes, at: int, bit: int) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    key, signature = private.public_key().public_bytes_raw(), private.sign(message)
    assert ed25519.fits(key, signature, [message])
    both = bytearray(key + signature)
    both[at] ^= 1 << bit
    key, signature = bytes(both[:32]), bytes(both[32:])
    assert ed25519.fits(key, signature, [message]) == says(key, signature, message)


KEY, _, SIGNATURE = (bytes.fromhex(part) for part in VECTORS[0])
ZERO_SIGNATURE = (1).to_bytes(32, "little") + bytes(32)
REFUSED = {
    "no signature": (KEY, b""),
    "a short one": (KEY, SIGNATURE[:-1]),
    "a long one": (KEY, SIGNATURE + b"\0"),
    "a short key": (KEY[:-1], SIGNATURE),
    "the order added, which gives the same point": (
        KEY,
        SIGNATURE[:32] + (int.from_bytes(SIGNATURE[32:], "little") + ORDER).to_bytes(32, "little"),
    ),
    "a key beyond the field": ((P + 1).to_bytes(32, "little"), ZERO_SIGNATURE),
    "minus zero": ((1 | 1 << 255).to_bytes(32, "little"), ZERO_SIGNATURE),
    "no point of the curve": ((2).to_bytes(32, "little"), SIGNATURE),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_written_in_its_one_way_is_refused(what: str) -> None:
    key, signature = REFUSED[what]
    assert not ed25519.fits(key, signature, [b""])
