"""`make wheels`: what it makes is small, tagged as it is, and denoises bit for bit where it was made for.

Every wheel is installed with pip's own check of its tags: into emulated Debian bookworm roots (arm64; armhf, with
Debian's NumPy) and into a new virtual environment here. Needs the extra `wheels`, and for the roots Debian's
`mmdebstrap`, `qemu-user-static`, `gcc-arm-linux-gnueabihf` and root: two minutes and 350 MB.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
from elf_facts import facts_of
from places import ROOT

from edge_runtime import native
from edge_runtime.quiet import silent
from edge_runtime.stft import Float32Array
from quant.build import stages
from quant.build.settings import Outputs, Settings
from quant.deploy.wheels import TARGETS
from quant.emit.native.file import KINDS

NEEDED = ("auditwheel", "build", "wheel", "ziglang")
TOP = ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.qemu,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in NEEDED), reason="needs the extra `wheels`"
    ),
]

# In one process: there, only a program that the kernel knows an emulator for could start another.
CHECK = """
import ctypes, json, sys
from pathlib import Path
import edge_runtime.native
from edge_runtime import open_artifact
from edge_runtime.cli import main
from edge_runtime.engines import golden
from edge_runtime import native
golden.engine_apart = lambda engine, function, *arguments: golden.streamed(*arguments)
rows = [row._asdict() for row in golden.check_golden(open_artifact("{artifact}"), ["native"])]
built_in = [row.ok for row in golden.check_golden(open_artifact())]
plugin = ctypes.CDLL(str(Path(edge_runtime.native.__file__).with_name("ladspa_edge_denoise.so"))).ladspa_descriptor
plugin.restype, plugin.argtypes = ctypes.c_void_p, [ctypes.c_ulong]
n_plugins = next(i for i in range(9) if not plugin(i))
print(json.dumps({{"rows": [(row["precision"], row["ok"], row["exact"]) for row in rows], "isas": native.isas(),
                  "n_plugins": n_plugins, "built_in": built_in}}))
sys.exit(main(["file", "{noisy}", "{clean}", "--model", "{artifact}", "--engine", "native", "--json"]))
"""


# Debian's soundfile asks ldconfig, which is a program of the root: it could only run if the kernel knew the emulator.
FIND_LIBRARY = "import ctypes.util\nctypes.util.find_library = 'lib{}.so.1'.format\n"


class Root(NamedTuple):
    """A Debian bookworm root to emulate: `debian` packages, `wheels` from the registry, and what its cores report."""

    machine: str
    architecture: str
    emulator: str
    debian: str
    wheels: tuple[str, ...]
    cores: dict[str, list[str]]
    library_path: str = ""


BASE = "python3,libsndfile1,libstdc++6,libc-bin,coreutils,bash,dash"
ARM64 = Root(
    "aarch64",
    "arm64",
    "qemu-aarch64-static",
    BASE,
    ("numpy", "soundfile", "soxr", "msgspec", "tqdm"),
    {"cortex-a53": ["neon", "portable"], "cortex-a76": ["dotprod", "neon", "portable"]},
)
# The registry has no 32-bit ARM wheels of NumPy, cffi and msgspec: Debian has the first two, msgspec is compiled.
ARMHF = Root(
    "armv7l",
    "armhf",
    "qemu-arm-static",
    f"{BASE},python3-numpy,python3-soundfile,libpython3.11-dev",
    ("tqdm",),
    {"cortex-a7": ["neon", "portable"], "cortex-a15": ["neon", "portable"]},
    "/usr/lib/arm-linux-gnueabihf/blas:/usr/lib/arm-linux-gnueabihf/lapack",
)


def run(*command: object, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=600, env=os.environ | environment
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """Machine -> what `make wheels` says of its wheel."""
    out = tmp_path_factory.mktemp("dist")
    made = json.loads(run(sys.executable, "-m", "quant.deploy.wheels", "--out", out, "--json", PYTHONPATH=str(TOP)))
    return {wheel["path"].rpartition("_2_17_")[2].removesuffix(".whl"): wheel for wheel in made}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory, mixture: Float32Array) -> Path:
    """An artifact, 3 s of noisy speech, and what the engine that this project compiled makes of it."""
    folder = tmp_path_factory.mktemp("sounds")
    stages.build(Settings(target="generic-c", outputs=Outputs(folder=folder / "artifact")), silent)
    soundfile.write(folder / "noisy.wav", mixture[:48_000], 16_000, subtype="PCM_16")
    run(sys.executable, "-c", check(folder, "here.wav"))
    return folder


def check(folder: object, clean: str) -> str:
    """A program: golden vectors, and a file denoised."""
    return CHECK.format(artifact=f"{folder}/artifact", noisy=f"{folder}/noisy.wav", clean=f"{folder}/{clean}")


def judge(said: str, isas: list[str] | None, clean: Path, sounds: Path) -> None:
    found = json.loads(said.splitlines()[0])
    assert found["rows"] == [["fp32", True, False], ["int8", True, True]]
    assert found["n_plugins"] == 2  # mono and stereo
    assert found["built_in"] == [True, True]  # the model that every wheel brings
    assert isas is None or found["isas"] == isas
    wanted, _ = soundfile.read(sounds / "here.wav", dtype="int16")
    samples, _ = soundfile.read(clean, dtype="int16")
    assert np.array_equal(samples, wanted)
    assert np.abs(wanted).max() > 300


def test_each_wheel_is_audited_and_its_library_small(wheels: dict[str, dict[str, object]]) -> None:
    assert set(wheels) == {"aarch64", "armv7l", "x86_64"}
    for target in TARGETS:
        machine, wheel = target.machine, wheels[target.machine]
        assert isinstance(wheel["library_bytes"], int)
        assert 100_000 < wheel["library_bytes"] <= target.most_bytes
        assert str(wheel["platform"]).endswith(machine)


def test_two_builds_are_the_same_bytes(wheels: dict[str, dict[str, object]], tmp_path: Path) -> None:
    """Made later, by another umask."""
    umask = os.umask(0o077)
    try:
        run(sys.executable, "-m", "quant.deploy.wheels", "--out", tmp_path, PYTHONPATH=str(TOP))
    finally:
        os.umask(umask)
    first = [Path(str(wheel["path"])) for wheel in wheels.values()]
    assert len(first) == 3
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {p.name: p.read_bytes() for p in first}


@pytest.mark.parametrize("root", [ARM64, ARMHF], ids=lambda root: root.machine)
def test_in_an_emulated_root(wheels: dict[str, dict[str, object]], sounds: Path, tmp_path: Path, root: Root) -> None:
    if not shutil.which("mmdebstrap") or not shutil.which(root.emulator) or os.geteuid() != 0:
        pytest.skip("needs root and Debian's mmdebstrap and qemu-user-static")
    folder = tmp_path / "root"
    options = ["--variant=extract", f"--architectures={root.architecture}", f"--include={root.debian}", "--quiet"]
    run("mmdebstrap", *options, "bookworm", folder, mirror())
    shutil.copy(str(shutil.which(root.emulator)), folder / "emulator")  # no binfmt is needed so
    pip_into(folder / "opt/site", root.machine, *root.wheels)
    pip_into(folder / "opt/site", root.machine, "--no-deps", wheels[root.machine]["path"])
    if root is ARMHF:
        compile_msgspec(folder, tmp_path)
        (folder / "opt/site/sitecustomize.py").write_text(FIND_LIBRARY)
    shutil.copytree(sounds, folder / "opt/sounds")
    paths = {"PYTHONPATH": "/opt/site", "LD_LIBRARY_PATH": root.library_path, "PYTHONDONTWRITEBYTECODE": "1"}
    for cpu, isas in root.cores.items():
        python = ["/emulator", "-cpu", cpu, "/usr/bin/python3", "-c", check("/opt/sounds", f"{cpu}.wav")]
        said = run("chroot", folder, *python, **paths)
        judge(said, isas, folder / f"opt/sounds/{cpu}.wav", sounds)


def mirror() -> str:
    """Where this machine has bookworm from: only the release, for updates are not always whole for every processor."""
    wanted = ["--format", "$(REPO_URI)", "Codename: bookworm", "Created-By: Packages"]
    return run("apt-get", "indextargets", *wanted).split()[0]


def pip_into(site: Path, machine: str, *packages: object) -> None:
    """As pip on Debian bookworm of that machine would choose."""
    glibc = ("2_17", "2_28", "2_31")
    platforms = [part for v in glibc for part in ("--platform", f"manylinux_{v}_{machine}")]
    old = ["--platform", f"manylinux2014_{machine}"]
    abis = ["--implementation=cp", "--python-version=3.11", "--abi=cp311", "--abi=abi3", "--abi=none"]
    options = ["--quiet", "--no-compile", "--only-binary=:all:", f"--target={site}"]
    run(sys.executable, "-m", "pip", "install", *options, *abis, *platforms, *old, *packages)


def compile_msgspec(root: Path, scratch: Path) -> None:
    """Its one C file, against the root's Python."""
    compiler = "arm-linux-gnueabihf-gcc"
    if shutil.which(compiler) is None:
        pytest.skip(f"needs Debian's {compiler}")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=msgspec"]
    run(*pip, f"--dest={scratch}", "msgspec>=0.18")
    (archive,) = scratch.glob("msgspec-*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(scratch, filter="data")
    (source,) = scratch.glob("msgspec-*/src/msgspec")
    package = root / "opt/site/msgspec"
    shutil.copytree(source, package)
    includes = [f"-I{root}/usr/include/python3.11", f"-I{root}/usr/include"]
    library = package / "_core.cpython-311-arm-linux-gnueabihf.so"
    run(compiler, "-O1", "-shared", "-fPIC", *includes, source / "_core.c", "-o", library)


def test_in_a_new_virtual_environment(wheels: dict[str, dict[str, object]], sounds: Path, tmp_path: Path) -> None:
    """pip resolves everything, as it would for a user."""
    if os.uname().machine != "x86_64":
        pytest.skip("the wheel is for x86-64")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    run(python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", wheels["x86_64"]["path"])
    judge(run(python, "-c", check(sounds, "venv.wav")), None, sounds / "venv.wav", sounds)
    kernels = run(python, "-c", "from edge_runtime.native import isas; print(*isas())").split()
    assert kernels == native.isas(), "others than the library has that is compiled here"


@pytest.mark.skipif(shutil.which("readelf") is None, reason="no readelf")
@pytest.mark.parametrize("machine", ["aarch64", "armv7l", "x86_64"])
def test_each_library_is_sealed_at_load(wheels: dict[str, dict[str, object]], tmp_path: Path, machine: str) -> None:
    """Guards are seen in aarch64's alone: for the others zig links their end, `__stack_chk_fail`, into the library."""
    with zipfile.ZipFile(str(wheels[machine]["path"])) as wheel:
        names = [wheel.extract(name, tmp_path) for name in wheel.namelist() if name.endswith(".so")]
    assert len(names) == 2
    for facts in map(facts_of, map(Path, names)):
        assert (facts.binds_at_load, facts.wx) == (True, False)
        assert facts.n_sealed_bytes > 2 * len(KINDS) * 4
        assert facts.n_writable_bytes < len(KINDS) * 4
        assert machine != "aarch64" or "__stack_chk_fail" in facts.imports


def test_without_the_sources_it_says_so(tmp_path: Path) -> None:
    others = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # which could lead to them
    line = [sys.executable, "-m", "quant.deploy.wheels"]
    done = subprocess.run(line, cwd=tmp_path, env=others, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"wheels: error: {tmp_path}: the sources are not here; run it in the project's folder\n"
