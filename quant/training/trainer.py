"""The trainer: one loop for the float network and for the prepared (fake-quantized) one.

One process on a CPU or a GPU, or many under `torchrun`. A run is a folder: `last.pt` to go on from, `history.json`, the
curves, and what the caller makes of the best weights. The same settings and sounds give the same numbers, also when a
run is stopped and resumed.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from edge_runtime.errors import Failure
from edge_runtime.extras import remedy
from edge_runtime.quiet import Progress
from edge_runtime.whole_file import written_whole
from quant.network.float_model import FloatModel
from quant.training import losses
from quant.training.data import Batch, Sounds, batches
from quant.training.history import History
from quant.training.watch import Watch, enhanced_pesq, mean_pesq, pesq_is_here

LAST_FILE, HISTORY_FILE, CURVES_FILE = "last.pt", "history.json", "curves.png"
WRITTEN_FIRST = (HISTORY_FILE, CURVES_FILE)  # of a run that was stopped before it had a state
LOWER_RATE = "lower --learning-rate; what was reached before is kept, see --resume"
LONGEST_SHOWN = 60  # characters of a setting
LARGEST_SEED = 2**32 - 1
DEVICES = r"cpu|cuda(:\d{1,3})?"  # as PyTorch names them
RANGES_KEY = "log_factors"  # the parameter of `Prepared` that has its own learning rate


@dataclass(frozen=True)
class Settings:
    """How to train. `share_teacher`: of the loss that compares with the float model, not with clean speech."""

    steps: int = 1000
    learning_rate: float = 1e-4  # 3e-4 undoes in ten steps what calibration gave
    range_learning_rate: float = 1e-3  # of the logarithm of a range: a thousandth a step
    warmup_steps: int = 50
    share_teacher: float = 0.5
    clip_norm: float = 3.0
    validate_every: int = 50
    n_validation_batches: int = 4
    patience: int = 8  # validations without a new best
    seed: int = 0
    n_workers: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        if min(self.steps, self.validate_every, self.n_validation_batches) < 1:
            raise Failure("training needs at least one step", remedy="raise --steps and --validate-every")
        if not 0 <= self.share_teacher <= 1:
            raise Failure("the teacher's share of the loss is a part of 1", remedy="set --share-teacher to 0 .. 1")
        if not all(0 < rate <= 1 for rate in (self.learning_rate, self.range_learning_rate)):
            raise Failure("a learning rate is above 0 and at most 1", remedy="set --learning-rate, such as 1e-4")
        if not 0 < self.clip_norm < math.inf:
            raise Failure(f"clip_norm is {self.clip_norm}", remedy="take a number above 0, such as 3")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise Failure(f"seed {self.seed} is none", remedy=f"set --seed to 0 .. {LARGEST_SEED}")
        if self.n_workers < 0:
            raise Failure(f"{self.n_workers} processes cannot mix sounds", remedy="set --workers to 0 or more")
        if not re.fullmatch(DEVICES, self.device):
            raise Failure(f"device {self.device} is not trained on here", remedy="set --device to cpu or cuda")

    def rate(self, step: int) -> float:
        """The share of the learning rates at a step: a linear start, then half a cosine down to zero."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        return 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Process:
    """This process among those of a distributed run."""

    rank: int = 0
    n: int = 1

    @property
    def leads(self) -> bool:
        """Whether it writes and talks."""
        return self.rank == 0


@contextmanager
def process(device: str) -> Iterator[tuple[Process, torch.device]]:
    """Join the run that `torchrun` started, or be the only process. Failure: no such device."""
    distributed = dist.is_torchelastic_launched()
    try:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise RuntimeError("PyTorch sees no CUDA device")
        chosen = torch.device(device)
        if distributed:
            dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
            if chosen.type == "cuda":
                chosen = torch.device("cuda", dist.get_rank() % torch.cuda.device_count())
        elif chosen.type == "cuda":
            torch.zeros(1, device=chosen)
    except RuntimeError as error:
        raise Failure(f"device {device}: {str(error).splitlines()[0]}", remedy="name another with --device") from None
    try:
        yield (Process(dist.get_rank(), dist.get_world_size()) if distributed else Process()), chosen
    finally:
        if distributed:
            dist.destroy_process_group()


class Trainer:
    """Trains `model`, whose forward gives (enhanced, states), towards clean speech and, if there is one, a teacher."""

    def __init__(
        self,
        model: nn.Module,
        teacher: FloatModel | None,
        sounds: Sounds,
        settings: Settings,
        folder: Path,
        me: Process,
        device: torch.device,
        started: Mapping[str, Any],
    ) -> None:
        """`started`: what the numbers of the run come from, by what the user calls it; a run goes on with no other."""
        self.model, self.started = model.to(device), dict(started)
        self.teacher = teacher.to(device).requires_grad_(False) if teacher is not None else None
        self.settings, self.folder, self.me, self.device = settings, folder, me, device
        self.train_sounds, held_out = sounds.split()
        self.validation = [held_out.batch(i) for i in range(settings.n_validation_batches)] if me.leads else []
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        weights = [p for name, p in named if name != RANGES_KEY]
        ranges = [p for name, p in named if name == RANGES_KEY]
        self.peaks = (settings.learning_rate, settings.range_learning_rate)
        self.optimizer = torch.optim.Adam([{"params": weights}, {"params": ranges}])
        self.wrapped = DistributedDataParallel(model) if me.n > 1 else model
        self.step, self.history, self.best = 0, History(), _weights(model)
        self.told: set[str] = set()

    def resume(self) -> bool:
        """Take up the run in the folder; False when there is none. Failure: it began otherwise, or is no run."""
        path = self.folder / LAST_FILE
        if not path.is_file():
            return False
        try:
            last = torch.load(path, map_location=self.device, weights_only=True)
            if self.me.leads and (differing := _differing(last["started"], self.started)):
                what = f"was started with other settings: {', '.join(differing)}"
                raise Failure(what, where=path, remedy="give the same, or another --out")
            self.model.load_state_dict(last["model"])
            self.optimizer.load_state_dict(last["optimizer"])
            self.step, self.history, self.best = last["step"], History(last["history"]), last["best"]
        except Failure:
            raise
        except Exception as error:  # a cut file can raise nearly anything
            raise Failure("is not a run to resume", where=path, remedy="start anew in another folder") from error
        return True

    def run(self, progress: Progress, title: str = "", *, keeps_last: bool = False) -> History:
        """Train to the end or until validation stops improving; afterwards the model holds the best weights, or those
        of the last step. `title`: of the curves."""
        curves = self.folder / CURVES_FILE
        with Watch(progress, self.step, self.settings.steps, curves, title, quiet=not self.me.leads) as watch:
            self._run(watch)
        if not keeps_last:
            self.model.load_state_dict(self.best)
        return self.history

    def _run(self, watch: Watch) -> None:
        for batch in self.validation:
            self._tell(batch, watch)
        if not self.history.rows:
            self._validate(None, watch)
        total = 0.0
        for batch in self._batches():
            self._tell(batch, watch)
            loss = self._train(batch)
            total += loss
            self.step += 1
            watch.step(self.step, loss, self.optimizer.param_groups[0]["lr"])
            if self.step % self.settings.validate_every and self.step != self.settings.steps:
                continue
            n_steps = (self.step - 1) % self.settings.validate_every + 1
            self._validate(total / n_steps, watch)
            total = 0.0
            if self._stops():
                break

    def _batches(self) -> Iterator[Batch]:
        chosen = self.settings
        return batches(
            self.train_sounds,
            self.step,
            chosen.steps,
            seed=chosen.seed,
            rank=self.me.rank,
            n_workers=chosen.n_workers,
        )

    def _tell(self, batch: Batch, watch: Watch) -> None:
        """Each recording that is left out, once."""
        for line in batch.left_out:
            if self.me.leads and line not in self.told:
                watch.say(f"left out: {line}")
                self.told.add(line)

    def _train(self, batch: Batch) -> float:
        rate = self.settings.rate(self.step)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * rate
        self.optimizer.zero_grad(set_to_none=True)
        loss, _ = self._loss(self.wrapped, batch)
        if not torch.isfinite(loss):
            raise Failure(f"the loss is {loss.item()} at step {self.step}", remedy=LOWER_RATE)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        return float(loss.detach())

    def _loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, float]:
        """The loss, and the SNR of the output to the teacher's, or else to clean speech, in dB."""
        noisy, clean = batch.noisy.to(self.device), batch.clean.to(self.device)
        window = self.train_sounds.window
        enhanced, _ = model(noisy)
        if self.teacher is None:
            return losses.hybrid(enhanced, clean, window), _snr_db(enhanced, clean)
        with torch.no_grad():
            taught, _ = self.teacher(noisy)
        share = self.settings.share_teacher
        loss = share * losses.hybrid(enhanced, taught, window) + (1 - share) * losses.hybrid(enhanced, clean, window)
        return loss, _snr_db(enhanced, taught)

    def _validate(self, train_loss: float | None, watch: Watch) -> None:
        """Measure, keep the best, and write the run so that it can be taken up from here."""
        if not self.me.leads:
            return
        with torch.no_grad():
            measured = [self._loss(self.model, batch) for batch in self.validation]
        loss = sum(float(one) for one, _ in measured) / len(measured)
        snr_db = sum(snr for _, snr in measured) / len(measured)
        if not math.isfinite(loss):
            raise Failure(f"the validation loss is {loss} at step {self.step}", remedy=LOWER_RATE)
        row = {"step": self.step, "validation_loss": loss, "snr_db": snr_db}
        row |= ({} if train_loss is None else {"train_loss": train_loss}) | self._pesq(watch)
        self.history.rows.append(row)
        if self.history.best is row:
            self.best = _weights(self.model)
        best = self.history.best["validation_loss"]
        target = "clean speech" if self.teacher is None else "the float model's"
        watch.say(
            f"step {self.step} of {self.settings.steps}: validation loss {loss:.4f} (best {best:.4f})"
            f"{self.history.pesq()}, output {snr_db:.1f} dB from {target}"
        )
        self._save()
        watch.validated(self.history)

    def _pesq(self, watch: Watch) -> dict[str, float]:
        """Of the first validation batch; at the start of its noisy clips, too. Nothing where it cannot be measured."""
        if not pesq_is_here():
            if not self.history.rows:
                watch.say(f"PESQ is not followed: {remedy('pesq')}")
            return {}
        noisy, clean = (each.to(self.device) for each in self.validation[0][:2])
        window = self.train_sounds.window
        found = {"pesq": enhanced_pesq(self.model, noisy, clean, window)}
        if not self.history.rows:
            found["pesq_noisy"] = mean_pesq(noisy, clean, window)
        return {name: value for name, value in found.items() if value is not None}

    def _save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "started": self.started,
            "model": _weights(self.model),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "history": self.history.rows,
            "best": self.best,
        }
        save(state, self.folder / LAST_FILE)
        with written_whole(self.folder / HISTORY_FILE) as part:
            part.write_text(json.dumps(self.history.rows, indent=1) + "\n")

    def _stops(self) -> bool:
        """Whether validation has stopped improving; the leading process decides for all."""
        stops = torch.tensor(int(self.me.leads and self.history.stale() >= self.settings.patience))
        if self.me.n > 1:
            stops = stops.to(self.device)
            dist.broadcast(stops, 0)
        return bool(stops)


def save(state: dict[str, Any], path: Path) -> None:
    """A PyTorch file, whole or not at all. Failure: it cannot be written, and why: PyTorch does not tell."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with written_whole(path) as part:
        part.write_bytes(buffer.getbuffer())


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, as the user calls it: `--steps 4, not 8`; of long fingerprints only that they do."""

    def said(key: str) -> str:
        old, new = str(before.get(key)), str(now.get(key))
        return f"other {key}" if max(len(old), len(new)) > LONGEST_SHOWN else f"{key} {old}, not {new}"

    keys = ["command"] if before.get("command") != now.get("command") else sorted({*before, *now})
    return [said(key) for key in keys if before.get(key) != now.get(key)]


def _snr_db(enhanced: Tensor, target: Tensor) -> float:
    """Signal to error, the mean over the batch."""
    error = ((enhanced.detach() - target) ** 2).mean((1, 2, 3)) + 1e-20
    return float((10 * torch.log10(((target**2).mean((1, 2, 3)) + 1e-20) / error)).mean())


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def fixed(settings: Settings) -> dict[str, Any]:
    """The settings that make the numbers: how they are computed does not."""
    return {k: v for k, v in asdict(settings).items() if k not in ("n_workers", "device", "patience")}
