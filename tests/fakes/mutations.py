"""Files that are nearly right: JSON with odd values in it, bytes that were flipped."""

from __future__ import annotations

import random
from typing import Any

MARKUP = '"><script>alert(1)</script>'
ODD: list[Any] = [None, True, 0, -1, 2**31, 2**64, 2**200, 1e308, -1e308, 5e-324, 1e-40, "", "x" * 5000, "\n", "\0", []]
ODD += [{}, [[]], [1], {"a": 1}, 0.5]


def mutated(value: Any, draw: random.Random, odd: list[Any] = ODD) -> Any:
    """JSON with one place changed, lost or added."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key, changed = draw.choice(list(value)), dict(value)
        if draw.random() < 0.1:
            del changed[key]
        else:
            changed[key if draw.random() < 0.95 else "more"] = mutated(value[key], draw, odd)
        return changed
    if isinstance(value, list) and value and draw.random() < 0.9:
        place = draw.randrange(len(value))
        return [mutated(each, draw, odd) if i == place else each for i, each in enumerate(value)]
    return draw.choice(odd)


def flipped(data: bytes, draw: random.Random, first: int = 0) -> bytes:
    """Some bytes changed, half of them near the start; sometimes the end is lost."""
    changed = bytearray(data)
    for _ in range(draw.choice([1, 3, 30])):
        changed[draw.randrange(first, len(data) if draw.random() < 0.5 else min(len(data), first + 3000))] = (
            draw.randrange(256)
        )
    return bytes(changed[: draw.randrange(len(changed))] if draw.random() < 0.1 else changed)
