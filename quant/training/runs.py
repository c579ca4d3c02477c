"""`quant qat` and `quant train`: a checkpoint and sounds in, a trained file or a checkpoint out.

qat     calibrate (`ptq`), train weights and ranges under the plan's rounding (`prepared`) -> NAME.trained
train   the float network, from a checkpoint or from scratch -> model.tar, which is a checkpoint like the official
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from calibration.mixing import Mix
from edge_runtime.errors import Failure
from edge_runtime.quiet import Progress
from edge_runtime.stft import SAMPLE_RATE_HZ, SQRT_HANN, Float32Array, WindowName
from edge_runtime.whole_file import scratch_folder, unwritten
from quant.inputs import checkpoint, trained
from quant.inputs.source import open_checkpoint, open_sounds
from quant.int8 import recipe
from quant.network import passes, registry, sizes
from quant.network.float_model import FloatModel
from quant.network.graph import Graph
from quant.ptq import quantize
from quant.training import trainer
from quant.training.data import Sounds
from quant.training.history import History
from quant.training.prepared import FIXED_WEIGHTS, Prepared
from quant.training.trainer import Process, Settings, Trainer

MODEL_FILE = "model.tar"
EXCERPT_CLIPS, EXCERPT_SAMPLES = 3, 2 * SAMPLE_RATE_HZ
EXCERPT_SEED = 2**40  # no step's
TRAINING_MIX = Mix(n_clips=8, clip_ms=3000, warmup_ms=0)
SPEECH, NOISE = "recordings of --speech", "recordings of --noise"
AFFINE = {"affine_weight": 0.0, "affine_bias": 0.0, "slope_weight": 0.25}  # an affine PReLU starts as a PReLU
FROZEN_ROLES = frozenset({"running_mean", "running_var"})


@dataclass(frozen=True)
class Job:
    """What the user asked for; None takes the pulled weights and sounds."""

    out: Path
    checkpoint: Path | None = None
    speech: Path | None = None
    noise: Path | None = None
    recipe: str | None = None  # None: the network's own
    mix: Mix = TRAINING_MIX
    calibration: Mix = quantize.CALIBRATION_MIX  # of qat's start
    settings: Settings = field(default_factory=Settings)
    resume: bool = False
    keeps_last: bool = False  # not the weights of the best validation, but of the last step
    rounds_gates: bool = True  # see `Prepared`
    log_floor: float | None = None  # of logarithms of magnitudes, in float, too; None: graph.FLOOR
    blend: float = 1.0  # of the way from the start to the trained network, for the result
    attribution: str = ""
    network: str | None = None  # None: the checkpoint's, or the first of the registry
    config: Any = None  # sizes of a network to train from scratch; None: the checkpoint's, or as published
    window: WindowName | None = None  # None: the checkpoint's, or as published


def qat(job: Job, progress: Progress) -> Path:
    """Train under the plan's rounding; returns the trained file. Failure: see `checkpoint.load`, `Trainer.resume`."""
    if not 0 <= job.blend <= 1:
        raise Failure("a blend is a part of 1", remedy="set --blend to 0 .. 1")
    named = None if job.recipe is None else recipe.load(job.recipe)
    source = open_checkpoint(job.checkpoint, job.network, progress)
    chosen = named or recipe.load(source.network.recipe)
    graph = _floored(passes.streaming_graph(source.graph(job.window)), job.log_floor)
    recipe.assign(chosen, graph)
    with trainer.process(job.settings.device) as (me, device):
        sounds = _start(job, graph.window, me, progress)
        if me.leads:
            progress("calibrating the start")
        heard, held_out = sounds.split()
        left_out = _told(progress, me)
        calibration = quantize.CalibrationSet.make(heard.speech, heard.noise, job.calibration, left_out)
        quantized = quantize.quantize(graph, chosen, calibration, source.sha256)
        model = Prepared(quantized, rounds_gates=job.rounds_gates)
        started = _started("qat", replace(job, recipe=job.recipe or source.network.recipe), source, sounds, me)
        title = f"{source.name}, recipe {chosen.name}"
        history = _run(job, model, FloatModel(graph), sounds, me, device, started, title, progress)
        path = job.out / f"{Path(source.name).stem}{trained.SUFFIX}"
        if me.leads:
            model.cpu().blend(job.blend)
            converted = model.converted()
            header = trained.Header(
                checkpoint_name=source.name,
                checkpoint_sha256=source.sha256,
                recipe=chosen,
                ranges=converted.ranges,
                slopes=trained.slopes_of(converted.graph),
                floors=trained.floors_of(converted.graph),
                training=_provenance(job, started, history),
                attribution=job.attribution,
                network=source.network.name,
                variant=_variant(source.config),
            )
            trained.save(path, converted.graph, header, _excerpt(held_out, left_out))
    return path


def _floored(graph: Graph, low: float | None) -> Graph:
    """Failure: it has no logarithm."""
    if low is None:
        return graph
    names = [node.name for node in graph.nodes if node.kind == "log_magnitude"]
    if not names:
        raise Failure("this network hears no logarithm of magnitudes", remedy="leave --log-floor out")
    return passes.with_floors(graph, dict.fromkeys(names, low))


def train(job: Job, progress: Progress, *, from_scratch: bool = False) -> Path:
    """Train the float network towards clean speech; without a teacher, for it would equal its own start."""
    if from_scratch and job.checkpoint is not None:
        raise Failure("a checkpoint is no start from scratch", where=job.checkpoint, remedy="leave one of both out")
    source = None if from_scratch else open_checkpoint(job.checkpoint, job.network, progress)
    if job.config is not None and source is not None:
        raise Failure("other sizes need other weights", remedy="give --from-scratch with --set")
    config = source.config if source else job.config or registry.load(job.network).published
    graph = source.graph(job.window) if source else _from_scratch(job, config)
    with trainer.process(job.settings.device) as (me, device):
        sounds = _start(job, graph.window, me, progress)
        model = FloatModel(graph)
        model.learns_statistics = from_scratch
        fix_constants(model)
        started = _started("train", replace(job, config=config), source, sounds, me)
        title = source.name if source else "from scratch"
        history = _run(job, model, None, sounds, me, device, started, title, progress)
        path = job.out / MODEL_FILE
        if me.leads:
            trained.require_finite(path, model.params())
            weights = {name: torch.tensor(values) for name, values in model.params().items()}
            beside = {checkpoint.WINDOW_KEY: graph.window, "training": _provenance(job, started, history)}
            if variant := _variant(config):
                beside[checkpoint.VARIANT_KEY] = variant
            trainer.save({"model": weights, **beside}, path)
    return path


def _from_scratch(job: Job, config: Any) -> Graph:
    network = registry.of_config(config)
    return network.build(initial_params(job.settings.seed, config), config, job.window or network.window)


def _variant(config: Any) -> dict[str, Any] | None:
    """Sizes other than the published ones, which a file must name."""
    return sizes.to_dict(config) if config != registry.of_config(config).published else None


def initial_params(seed: int, config: Any = None) -> dict[str, Float32Array]:
    """Weights to start from: PyTorch's own defaults (uniform within 1 / sqrt(fan-in)), and the ERB matrices."""
    config = config or registry.DEFAULT.published
    network = registry.of_config(config)
    rng, fixed, shapes = np.random.default_rng(seed), network.fixed(config), network.param_shapes(config)
    return {name: fixed.get(name, _initial(name, shape, shapes, rng)) for name, shape in shapes.items()}


def _initial(
    name: str, shape: tuple[int, ...], shapes: dict[str, tuple[int, ...]], rng: np.random.Generator
) -> Float32Array:
    layer, role = name.rsplit(".", 1)
    if role in ("running_mean", "running_var"):
        return np.full(shape, float(role == "running_var"), np.float32)
    weight = shapes.get(f"{layer}.weight", ())
    if role in AFFINE:
        return np.full(shape, AFFINE[role], np.float32)
    if len(weight) == 1 and shape == (1,):
        return np.full(shape, 0.25, np.float32)  # PReLU
    if f"{layer}.running_mean" in shapes or layer.endswith("_ln"):
        return np.full(shape, float(role == "weight"), np.float32)
    hidden = shapes.get(f"{layer}.{role.replace('_reverse', '').replace('ih', 'hh').replace('bias', 'weight')}")
    fan_in = int(np.prod((weight or hidden or shape)[1:]))
    return rng.uniform(-1, 1, shape).astype(np.float32) / np.float32(np.sqrt(fan_in))


def fix_constants(model: FloatModel) -> None:
    """The ERB matrices and the statistics of BatchNorm are not trained by gradients."""
    for node in model.graph.nodes:
        roles = node.params if node.kind in FIXED_WEIGHTS else FROZEN_ROLES & node.params.keys()
        for role in roles:
            for name in node.params[role]:
                model.weight(name).requires_grad_(False)


def _start(job: Job, window: WindowName, me: Process, progress: Progress) -> Sounds:
    """The sounds, after everything that can be refused before work begins."""
    torch.manual_seed(job.settings.seed)
    torch.set_num_threads(1 if me.n > 1 else torch.get_num_threads())
    if me.leads:
        _check_empty(job)
    sounds = Sounds(*open_sounds(job.speech, job.noise, progress), job.mix, window)
    if me.leads:
        _make(job.out)
        with _alone(job):
            pass
    return sounds


def _check_empty(job: Job) -> None:
    """Failure: in the folder of the run lies something that it would replace."""
    if not job.out.is_dir() or not any(job.out.iterdir()):
        return
    if not job.resume:
        raise Failure("is not empty", where=job.out, remedy="give --resume to go on, or another --out")
    theirs = [path.name for path in job.out.iterdir() if path.name not in trainer.WRITTEN_FIRST]
    if theirs and trainer.LAST_FILE not in theirs:
        raise Failure("is not empty, and holds no run to go on with", where=job.out, remedy="give another --out")


def _make(folder: Path) -> None:
    """Failure: nothing can be written there, which is known before the work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with scratch_folder(folder):
            pass
    except OSError as error:
        raise unwritten(error, folder) from error


@contextmanager
def _alone(job: Job) -> Iterator[None]:
    """The folder of the run, held against other runs. Failure: one is at work there, or was meanwhile."""
    folder = os.open(job.out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure("is of a run that is at work", where=job.out, remedy="give another --out") from None
        except OSError:  # a file system without locks
            pass
        _check_empty(job)
        yield
    finally:
        os.close(folder)


def _run(
    job: Job,
    model: FloatModel | Prepared,
    teacher: FloatModel | None,
    sounds: Sounds,
    me: Process,
    device: torch.device,
    started: dict[str, Any],
    title: str,
    progress: Progress,
) -> History:
    run = Trainer(model, teacher, sounds, job.settings, job.out, me, device, started)
    with _alone(job) if me.leads else nullcontext():
        if job.resume and run.resume() and me.leads:
            progress(f"going on from step {run.step}")
        return run.run(progress, title, keeps_last=job.keeps_last)


def _told(progress: Progress, me: Process) -> Callable[[Failure], None]:
    return lambda failure: progress(f"left out: {failure.what}") if me.leads else None


def _started(
    command: str, job: Job, source: checkpoint.Checkpoint | None, sounds: Sounds, me: Process
) -> dict[str, Any]:
    """All that the numbers of a run come from, as the user calls it, as JSON types; the leading process compares it."""
    if not me.leads:
        return {}
    mixes = {"mix": job.mix, "calibration": job.calibration} if command == "qat" else {"mix": job.mix}
    mixed = {f"{of}.{k}": v for of, mix in mixes.items() for k, v in msgspec.to_builtins(mix).items()}
    started = {
        "command": command,
        "--checkpoint": source.name if source else "random weights",
        "weights of --checkpoint": source.sha256 if source else "",
        "--recipe": job.recipe if command == "qat" else "",
        "rules of --recipe": recipe.to_toml(recipe.load(job.recipe)) if command == "qat" and job.recipe else "",
        "--set": sizes.to_dict(source.config if source else job.config),
        **({"--window": sounds.window} if sounds.window != SQRT_HANN else {}),
        SPEECH: sounds.speech.fingerprint(),
        NOISE: sounds.noise.fingerprint(),
        "--batch": mixed.pop("mix.n_clips"),
        "--clip-ms": mixed.pop("mix.clip_ms"),
        "processes": me.n,
        **mixed,
        **({} if job.rounds_gates else {"--float-gates": True}),
        **({} if job.log_floor is None else {"--log-floor": job.log_floor}),
        **{f"--{name.replace('_', '-')}": value for name, value in trainer.fixed(job.settings).items()},
    }
    return dict(msgspec.json.decode(msgspec.json.encode(started)))


def _excerpt(held_out: Sounds, left_out: Callable[[Failure], None]) -> Float32Array:
    """(clips, samples) noisy speech for golden vectors."""
    mix = replace(
        held_out.mix,
        n_clips=EXCERPT_CLIPS,
        clip_ms=1000 * EXCERPT_SAMPLES // SAMPLE_RATE_HZ,
        share_clean=0.0,
        share_noise_alone=0.0,
    )
    return np.stack([clip.noisy for clip in replace(held_out, mix=mix).clips(EXCERPT_SEED, left_out)])


def _provenance(job: Job, started: Mapping[str, Any], history: History) -> dict[str, Any]:
    """How the result came about, as JSON types."""
    return {
        "settings": trainer.fixed(job.settings),
        "keeps_last": job.keeps_last,
        "rounds_gates": job.rounds_gates,
        "blend": job.blend,
        "mix": msgspec.to_builtins(job.mix),
        "speech_sha256": started[SPEECH],
        "noise_sha256": started[NOISE],
        "best": history.best,
    }
