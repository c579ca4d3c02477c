"""What a run has found so far: a row a validation."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class History:
    """One row a validation: step, validation loss, SNR in dB (`Trainer._loss`), mean training loss since the last, and
    PESQ where it can be measured; the first row has that of the noisy clips, too."""

    rows: list[dict[str, float]] = field(default_factory=list)

    @property
    def best(self) -> dict[str, float]:
        """The row with the lowest validation loss, the earliest of equals."""
        return min(self.rows, key=lambda row: row["validation_loss"])

    def stale(self) -> int:
        """Validations since the best one."""
        return len(self.rows) - 1 - self.rows.index(self.best)

    @property
    def has_pesq(self) -> bool:
        """Whether there is something to hold it against."""
        return {"pesq", "pesq_noisy"} <= self.rows[0].keys()

    def pesq(self) -> str:
        """The last, with what it is to be held against; nothing where it was not measured."""
        first, last = self.rows[0], self.rows[-1]
        if not self.has_pesq or "pesq" not in last:
            return ""
        return f", PESQ {last['pesq']:.2f} (noisy {first['pesq_noisy']:.2f}, start {first['pesq']:.2f})"
