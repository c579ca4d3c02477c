"""A build into a folder that holds an artifact: where the same inputs make the same models, it is left as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import boards
from edge_runtime.errors import Failure
from edge_runtime.manifest import Artifact, Manifest, open_artifact
from quant.artifact.folder import occupied
from quant.build.contents import built_with
from quant.build.models import OFFICIAL_FILE, TENSORRT_FILE
from quant.build.settings import Settings
from quant.inputs.source import Source
from quant.int8 import recipe
from quant.report import remake, schema
from quant.report.schema import Report


def artifact_there(settings: Settings) -> Artifact | None:
    """What lies in the folder and may not be replaced; None for nothing, or for what cannot be opened."""
    with suppress(Failure):
        return None if settings.outputs.force else open_artifact(settings.folder)
    return None


def require_same_inputs(there: Artifact, settings: Settings, source: Source) -> None:
    """Failure, before the work: this build would make something else, and names the first thing that differs."""
    if differing := next(_differences(there, settings, source), None):
        raise occupied(there.directory, differing)


def require_same_models(there: Artifact, made: Manifest) -> Report:
    """The report that is there. Failure: the same inputs make other models now."""
    for name in made.model_files():
        if there.manifest.files.get(name) != made.files[name]:
            raise occupied(there.directory, f"whose {name} was built otherwise")
    return schema.read_from(there)


def _differences(there: Artifact, settings: Settings, source: Source) -> Iterator[str]:
    held = there.manifest
    if settings.search is not None:
        yield "and a search makes another"
    if held.board != boards.load(settings.target).name:
        yield f"for {held.board}"
    if held.checkpoint.sha256 != source.sha256:
        yield f"of another checkpoint, {held.checkpoint.name}"
    if held.window != source.graph.window:
        yield f"of the window {held.window}"
    if "recipe.toml" not in held.files or there.read("recipe.toml") != recipe.to_toml(source.recipe).encode():
        yield f"of another recipe, {held.recipe}"
    if held.built_with != built_with():
        yield "built with other versions"
    yield from (f"without {name}" for name in _wanted(settings) if name not in held.files)


def _wanted(settings: Settings) -> Iterator[str]:
    """Files that not every build leaves."""
    asked = settings.outputs
    yield from [remake.HTML_FILE] * asked.html
    yield from [OFFICIAL_FILE] * asked.official_io
    yield from [TENSORRT_FILE] * asked.tensorrt
