"""What built an artifact, as a CycloneDX bill of materials: every package of the compiler, the weights, the models.

No date and no random number: the same packages and the same inputs give the same bytes.
"""

from __future__ import annotations

import platform
import uuid
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Final

from edge_runtime.manifest import Checkpoint, FileEntry

if TYPE_CHECKING:
    from cyclonedx.model import HashType
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

FILE: Final = "sbom.cdx.json"
ROOT: Final = "edge-denoise"
EXTRA: Final = "build"
_NAMESPACE: Final = uuid.UUID("c6f5a6a4-4d3b-5a1f-9d3e-6f0a3f1f7b52")
_CLASSIFIER: Final = "License :: OSI Approved :: "
_LONGEST_NAME: Final = 80  # some packages put the whole text where the name belongs


def make(board: str, checkpoint: Checkpoint, files: Mapping[str, FileEntry]) -> bytes:
    """CycloneDX 1.6 as JSON; `files` are the artifact's so far."""
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    graph = packages()
    libraries = {name: _library(name) for name in graph}
    python = Component(name="python", type=ComponentType.PLATFORM, version=platform.python_version(), bom_ref="python")
    weights = Component(
        name=checkpoint.name,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        hashes=[_sha256(checkpoint.sha256)],
        bom_ref="checkpoint",
    )
    models = [
        Component(name=name, type=ComponentType.FILE, hashes=[_sha256(entry.sha256)], bom_ref=f"file:{name}")
        for name, entry in sorted(files.items())
    ]
    artifact = Component(
        name=f"{ROOT}-{board}",
        type=ComponentType.MACHINE_LEARNING_MODEL,
        version=checkpoint.sha256[:16],
        components=models,
        bom_ref="artifact",
    )
    versions = [f"{name}={library.version}" for name, library in libraries.items()]
    hashes = [files[name].sha256 for name in sorted(files)]
    identity = "\n".join([board, checkpoint.sha256, platform.python_version(), *versions, *hashes])
    bom = Bom(
        components=[*libraries.values(), python, weights],
        serial_number=uuid.uuid5(_NAMESPACE, identity),
        metadata=BomMetaData(component=artifact),
    )
    bom.metadata.timestamp = None  # type: ignore[assignment]  # the library would state now; the schema asks for none
    for name, needs in graph.items():
        bom.register_dependency(libraries[name], [libraries[need] for need in needs])
    bom.register_dependency(artifact, [libraries[ROOT], python, weights])
    return (JsonV1Dot6(bom).output_as_string(indent=1) + "\n").encode()


@cache
def packages() -> Mapping[str, list[str]]:
    """Every installed package that a build may load -> those it needs itself; names as registries normalise them."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, list[str]] = {}
    asked: set[tuple[str, str]] = set()
    waiting = [(ROOT, ""), (ROOT, EXTRA)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in asked:
            continue
        asked.add((name, extra))
        try:
            requirements = [Requirement(text) for text in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            continue  # optional there, and not here
        needs = found.setdefault(name, [])
        for requirement in requirements:
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                need = str(canonicalize_name(requirement.name))
                needs.append(need)
                waiting += [(need, ""), *((need, more) for more in requirement.extras)]
    return {name: sorted({need for need in needs if need in found}) for name, needs in sorted(found.items())}


@cache
def _library(name: str) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    purl = PackageURL("pypi", name=name, version=metadata.version(name))
    return Component(
        name=name,
        type=ComponentType.LIBRARY,
        version=metadata.version(name),
        purl=purl,
        licenses=_licences(name),
        bom_ref=purl.to_string(),
    )


def _licences(name: str) -> list[License]:
    """As the package states them: an SPDX expression, a classifier, or a name."""
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression

    stated = metadata.distribution(name).metadata.json
    if expression := stated.get("license_expression"):
        return [LicenseExpression(str(expression))]
    names = [c.removeprefix(_CLASSIFIER) for c in stated.get("classifier", []) if c.startswith(_CLASSIFIER)]
    names = names or [text for text in [str(stated.get("license", "")).strip()] if 0 < len(text) <= _LONGEST_NAME]
    return [DisjunctiveLicense(name=text) for text in sorted(set(names))]


def _sha256(hexdigest: str) -> HashType:
    from cyclonedx.model import HashAlgorithm, HashType

    return HashType(alg=HashAlgorithm.SHA_256, content=hexdigest)
