"""Tables of what is mistyped."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def one_by_one(numbers: Iterable[tuple[list[str], str, list[str], str]]) -> list[pytest.ParameterSet]:
    """(argv, option, texts, message) -> a row for each text, named by the command, the option and the text."""
    return [
        pytest.param(argv, option, text, message, id=f"{argv[0]} {option} {text[:9]}")
        for argv, option, texts, message in numbers
        for text in texts
    ]
