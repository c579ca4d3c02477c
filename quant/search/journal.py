"""The journal of a search: every measured trial, one line of JSON each, so that a killed search goes on where it was.

The search decides by its measurements alone; with the same measurements it takes the same path. So only these are
kept: started again, it runs through its decisions and measures what is not in the journal yet.
"""

from __future__ import annotations

import json
from pathlib import Path

from edge_runtime import bounded
from edge_runtime.errors import Failure
from edge_runtime.whole_file import sync, unwritten, written_whole
from quant.search.validation import Score

MOST_BYTES = 64 * bounded.MIB  # of a journal; a trial has a few KB
OTHER = "name another --search-state"
FORMAT = "edge-denoise search"


class Journal:
    """Trial -> score, kept in a file as it grows."""

    def __init__(self, path: Path, key: str) -> None:
        """Failure: the file is another search's, or no journal at all, or cannot be written."""
        self.path, self.scores = path, dict[str, Score]()
        head = json.dumps({"format": FORMAT, "key": key})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            text = bounded.read(path, MOST_BYTES, OTHER).decode("utf-8") if path.exists() else ""
            whole = text[: text.rfind("\n") + 1]  # the line that was being written when it was killed goes
            if text and not whole.startswith(head + "\n"):
                raise Failure("is the journal of another search", where=path, remedy=OTHER)
            self.scores = dict(_trial(line) for line in whole.splitlines()[1:])
            if whole != text or not text:
                with written_whole(path) as part:
                    part.write_text(whole or head + "\n", "utf-8")
        except OSError as error:
            raise Failure(f"cannot be written ({error.strerror})", where=path, remedy=OTHER) from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Failure("is no journal of a search", where=path, remedy=OTHER) from None

    def add(self, trial: str, score: Score) -> None:
        """Keep a measurement. Failure: it cannot be written."""
        self.scores[trial] = score
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"trial": trial, "figures": score.figures, "clips": score.clips}) + "\n")
            sync(self.path)
        except OSError as error:
            raise unwritten(error, self.path) from None


def _trial(line: str) -> tuple[str, Score]:
    row = json.loads(line)
    return row["trial"], Score(tuple(row["figures"]), tuple(tuple(clip) for clip in row["clips"]))
