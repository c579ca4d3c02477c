"""The blocks of a network, read off the names of its layers: what people talk about, between a layer and the whole.

encoder.en_convs.2.tra.att_gru   block encoder.en_convs.2   stage encoder   called "encoder 2"
dpgrnn1.intra_rnn                block dpgrnn1              stage dpgrnn    called "DPGRNN 1"
erb.bands                        block erb.bands            stage erb       called "ERB bands"
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

ACRONYMS: Final[Mapping[str, str]] = {"erb": "ERB", "dpgrnn": "DPGRNN"}
_N_WITHOUT_NUMBER: Final = 2  # parts that are a block where none is numbered


def block_of(name: str) -> str:
    """The name as far as its first part with a number at its end; without one, its first two parts."""
    parts = name.split(".")
    numbered = next((i + 1 for i, part in enumerate(parts) if part[-1:].isdigit()), _N_WITHOUT_NUMBER)
    return ".".join(parts[:numbered])


def stage_of(block: str) -> str:
    """What the block is a part of: encoder, dpgrnn, decoder."""
    return block.partition(".")[0].rstrip("0123456789")


def titles(names: Iterable[str]) -> dict[str, str]:
    """Block -> what people call it, in the order of the layers `names`.

    Of the lists of a stage the one with most layers needs no name: encoder.en_convs.2 is "encoder 2".
    """
    n_layers = Counter(block_of(name) for name in names)
    lists: dict[str, Counter[str]] = {}
    for block, n in n_layers.items():
        lists.setdefault(stage_of(block), Counter())[_list_of(block)] += n
    main = {stage: found.most_common(1)[0][0] for stage, found in lists.items()}
    return {block: _title(block, main[stage_of(block)]) for block in n_layers}


def _list_of(block: str) -> str:
    """encoder.en_convs.2 -> encoder.en_convs"""
    return block.rstrip("0123456789").rstrip(".")


def _title(block: str, main: str) -> str:
    stage, in_list = stage_of(block), _list_of(block)
    number = block[len(in_list) :].lstrip(".")
    between = in_list[len(stage) :].strip(".").split(".") if in_list != main or not number else []
    return " ".join(filter(None, [ACRONYMS.get(stage, stage), *between, number])).replace("_", " ")
