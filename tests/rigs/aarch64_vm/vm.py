"""A Debian arm64 machine with a real ALSA `hw:` loopback card, emulated: its root, its kernel, one boot.

    python tests/rigs/aarch64_vm/run.py --help      what is run in it

Needs root and Debian's mmdebstrap, qemu-system-arm, cpio and gcc-aarch64-linux-gnu; two minutes, 1 GB and a network.
The kernel is Debian's own (it has snd-aloop; most hosts of containers do not), the root holds systemd, alsa-utils,
Python, the wheels of the runtime, the package with its cross-compiled library, and a model: all in one initramfs.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import edge_runtime
from edge_runtime.errors import Failure

sys.path.insert(0, str(Path(__file__).parents[2] / "fakes"))
from places import INCLUDES, engine_sources

SUITE: Final = "bookworm"
PYTHON: Final = "3.11"
DEBIAN_PACKAGES: Final = (
    "python3,libsndfile1,libc-bin,coreutils,bash,dash,libstdc++6,alsa-utils,libasound2,kmod,mount,util-linux,procps,"
    "base-passwd,systemd,systemd-sysv,udev,libnss-systemd"
)
MERGED_USR: Final = "/usr/share/mmdebstrap/hooks/merged-usr"  # /bin, /lib and /sbin are links, as on any machine today
LEFT_OUT: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/sounds/*")
WHEELS: Final = ("numpy<2.3", "soundfile", "soxr", "msgspec", "tqdm")
PLATFORMS: Final = [f"manylinux{tag}_aarch64" for tag in ("_2_17", "2014", "_2_27", "_2_28")]
MODULES: Final = ("soundcore", "snd", "snd-timer", "snd-pcm", "snd-aloop")  # in the order in which they are loaded
COMPILER: Final = "aarch64-linux-gnu-gcc"
FLAGS: Final = ("-std=c99", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-s")
PROGRAMS: Final = {
    "mmdebstrap": "mmdebstrap",
    "qemu-system-aarch64": "qemu-system-arm",
    "cpio": "cpio",
    COMPILER: "gcc-aarch64-linux-gnu",
    "dpkg-deb": "dpkg",
}
RESULT: Final = "RIG-RESULT "  # the guest prints it once, with JSON behind it
BOOT_LIMIT_S: Final = 180  # what a boot, its imports and the shutdown may take beside the work

# What a machine without disk, network and users need not start; emulated, each costs a second or ten.
MASKED: Final = (
    "proc-sys-fs-binfmt_misc.automount", "systemd-udev-trigger.service", "systemd-hwdb-update.service",
    "systemd-update-utmp.service", "systemd-random-seed.service", "systemd-journal-flush.service",
    "systemd-journal-catalog-update.service", "systemd-firstboot.service", "systemd-pstore.service",
    "modprobe@configfs.service", "modprobe@dm_mod.service", "modprobe@drm.service", "modprobe@fuse.service",
    "modprobe@loop.service", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "dev-hugepages.mount",
    "dev-mqueue.mount", "systemd-timesyncd.service", "systemd-networkd.service", "systemd-resolved.service",
)  # fmt: skip

MACHINE: Final = (
    "-M",
    "virt,gic-version=3",
    "-cpu",
    "cortex-a72",
    "-smp",
    "1",
    "-m",
    "3G",
    "-nic",
    "none",
    "-nographic",
    "-no-reboot",
    "-icount",
    "shift=0,align=off,sleep=off",
)
KERNEL_LINE: Final = "console=ttyAMA0 quiet panic=-1 rdinit=/usr/lib/systemd/systemd systemd.unit=rig.service"

_UNIT: Final = """[Unit]
Description=what this machine was started for

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /opt/rig/guest.py
ExecStopPost=/usr/bin/systemctl poweroff --force --force
StandardOutput=file:/dev/ttyAMA0
StandardError=file:/dev/ttyAMA0
Environment=HOME=/root LANG=C.UTF-8 XDG_RUNTIME_DIR=/run
TimeoutStartSec=infinity
"""


def missing() -> str | None:
    """Why the machine cannot be built here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    packages = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    return f"needs the packages {' '.join(packages)}" if packages else None


def build(folder: Path, model: Path) -> None:
    """Leave `folder`/vmlinuz and `folder`/root; what is there is kept, but package and model are renewed.

    Failure: a program is missing, or one of them fails.
    """
    if reason := missing():
        raise Failure(f"no emulated machine: {reason}", remedy="Debian: apt install what is named, as root")
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / "root"
    if not (folder / "root.done").exists():
        shutil.rmtree(root, ignore_errors=True)
        _debian_root(root, folder)
        (folder / "root.done").touch()
    if not (folder / "vmlinuz").exists():
        _kernel(folder)
    _project(root, model)
    shutil.copytree(folder / "modules", root / "opt/modules", dirs_exist_ok=True)


def boot(folder: Path, plan: dict[str, Any], files: Sequence[Path], work_s: float) -> dict[str, Any]:
    """Boot once with `plan` and `files` beside the guest script; what the guest found. Its console is console.log.

    Failure: the guest reported nothing.
    """
    root = folder / "root"
    rig = root / "opt/rig"
    shutil.rmtree(rig, ignore_errors=True)
    rig.mkdir(parents=True)
    for path in (Path(__file__).parent / "guest.py", *files):
        shutil.copy(path, rig)
    (root / "etc/systemd/system/rig.service").write_text(_UNIT)
    (rig / "plan.json").write_text(json.dumps(plan))
    initrd, log = folder / "initrd.cpio", folder / "console.log"
    _run(["sh", "-c", f"find . | cpio --quiet -o -H newc > {initrd}"], cwd=root)
    kernel = ["-kernel", str(folder / "vmlinuz"), "-initrd", str(initrd), "-append", KERNEL_LINE]
    command = ["qemu-system-aarch64", *MACHINE, *kernel]
    with log.open("wb") as console:
        try:
            limit_s = work_s + BOOT_LIMIT_S
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, timeout=limit_s)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"not done after {limit_s:.0f} s", where=log, remedy="read what it printed last") from error
    for line in log.read_text(errors="replace").splitlines():
        if RESULT in line:
            found: dict[str, Any] = json.loads(line.partition(RESULT)[2])
            return found
    raise Failure("the emulated machine reported nothing", where=log, remedy="read what it printed last")


def _debian_root(root: Path, folder: Path) -> None:
    left_out = [f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT]
    options = ["--quiet", "--variant=extract", "--architectures=arm64"]
    options += [f"--include={DEBIAN_PACKAGES}", f"--hook-dir={MERGED_USR}"]
    scratch = folder / "tmp"
    scratch.mkdir(exist_ok=True)
    _run(["mmdebstrap", *options, *left_out, SUITE, str(root)], env={**os.environ, "TMPDIR": str(scratch)})
    for name in MASKED:
        (root / f"etc/systemd/system/{name}").symlink_to("/dev/null")
    for name in ("passwd", "group"):  # maintainer scripts, which would write them, have not run
        shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / f"etc/{name}")
    (root / "etc/machine-id").write_text("0" * 31 + "1\n")
    shutil.rmtree(root / "var/lib/apt", ignore_errors=True)
    _wheels(root / "usr/lib/python3/dist-packages")


def _wheels(target: Path) -> None:
    platforms = [part for p in PLATFORMS for part in ("--platform", p)]
    abis = ["--implementation=cp", f"--python-version={PYTHON}", "--abi=cp311", "--abi=abi3", "--abi=none"]
    options = ["--quiet", "--no-compile", "--upgrade", f"--target={target}", "--only-binary=:all:"]
    _run([sys.executable, "-m", "pip", "install", *options, *abis, *platforms, *WHEELS])


def _kernel(folder: Path) -> None:
    """Debian's kernel of this suite and its loopback card, through apt with lists of its own."""
    apt = folder / "apt"
    for name in ("lists/partial", "archives/partial"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    settings = (
        "APT::Architecture=arm64",
        "APT::Architectures=arm64",
        "Dir::State::status=/dev/null",
        f"Dir::State::lists={apt}/lists",
        f"Dir::Cache={apt}",
        "APT::Sandbox::User=root",
    )
    options = [part for setting in settings for part in ("-o", setting)]
    _run(["apt-get", *options, "-qq", "update"])
    depends = _run(["apt-cache", *options, "depends", "linux-image-arm64"]).split()
    image = next(word for word in depends if word.startswith("linux-image-") and word != "linux-image-arm64")
    _run(["apt-get", *options, "-qq", "download", image], cwd=apt)
    tree = folder / "kernel"
    _run(["dpkg-deb", "-x", str(next(apt.glob(f"{image}_*.deb"))), str(tree)])
    modules = folder / "modules"
    modules.mkdir(exist_ok=True)
    for name in MODULES:
        (source,) = tree.rglob(f"{name}.ko*")
        data = source.read_bytes()
        (modules / f"{name}.ko").write_bytes(lzma.decompress(data) if source.suffix == ".xz" else data)
    shutil.copy(next((tree / "boot").glob("vmlinuz-*")), folder / "vmlinuz")
    shutil.rmtree(tree)


def _project(root: Path, model: Path) -> None:
    """The package as installed, its library compiled for the machine, the program, the model."""
    here = Path(edge_runtime.__file__).parent
    package = root / "usr/lib/python3/dist-packages/edge_runtime"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(here, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    _run(
        [
            COMPILER,
            *FLAGS,
            *INCLUDES,
            "-shared",
            "-fPIC",
            *engine_sources(),
            "-o",
            str(package / "native/libedge_denoise.so"),
            "-lm",
        ]
    )
    program = root / "usr/bin/edge-denoise"
    program.write_text("#!/usr/bin/python3\nimport sys\nfrom edge_runtime.cli import main\nsys.exit(main())\n")
    program.chmod(0o755)
    shutil.rmtree(root / "opt/model", ignore_errors=True)
    shutil.copytree(model, root / "opt/model")


def _run(command: Sequence[str], **options: Any) -> str:
    """The output of a program. Failure: its last line, when it fails."""
    done = subprocess.run(command, text=True, capture_output=True, **options)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
        raise Failure(last, where=command[0])
    return done.stdout
