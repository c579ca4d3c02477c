# The whole manual: make setup | demo | check | test | fuzz | bench | wheels | deb | builtin | lock
PYTHON ?= $(or $(firstword $(foreach v,3.11 3.12 3.13 3.14 3.10,$(shell command -v python$(v)))),python3)
VENV := .venv
TORCH := torch==2.13.0
# Where the default index has a CUDA build alone: PyTorch's own index of CPU builds. Yours: make TORCH_CPU_INDEX=URL
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := $(VENV)/bin
# The version and the hash of all that is fetched but PyTorch. Other versions, as pyproject.toml allows: make setup LOCK=
LOCK := requirements.lock
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install --constraint constraints.txt
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo -n)
# Debian keeps these apart from Python itself: venv with pip, and the headers that PESQ is compiled with.
IS_FIT := import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))
IS_WHOLE := import ensurepip, sysconfig; open(sysconfig.get_path("include") + "/Python.h")
APT := $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get -qq

SECONDS ?= 60

# Tests and demo start many interpreters: what they import is compiled once, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo check test slow fuzz bench counts wheels deb builtin lock clean

setup: $(VENV)/.ready $(VENV)/.engine

# In steps, so that each failure has its own line of remedy.
$(VENV)/.ready: pyproject.toml constraints.txt $(LOCK) | $(VENV)/.torch
	@$(if $(LOCK),$(PIP) --no-deps --require-hashes --requirement $(LOCK) && $(PIP) --no-deps --editable ., \
	  $(PIP) --editable ".[build,eval,dev]") || { \
	  echo "make: error: a package is missing, see pip's lines above; PESQ is compiled (Debian: apt install gcc" \
	    "python3-dev); without the versions of requirements.lock: make setup LOCK="; exit 1; } >&2
	@touch $@

# Of sources that came later, as with `git pull`: the engine that pip compiled refuses what they emit.
$(VENV)/.engine: setup.py $(wildcard edge_runtime/native/*/*.[ch] edge_runtime/native/*/*.inc) | $(VENV)/.ready
	@$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

# PyTorch first and alone: where its CUDA build is the only one, that must be found before anything else is fetched.
$(VENV)/.torch: constraints.txt
	@$(PYTHON) -c '$(IS_FIT)' 2>/dev/null || { \
	  echo "make: error: $(PYTHON) is not there or not Python 3.10 to 3.14; name one: make PYTHON=python3.11"; exit 1; } >&2
	@echo "setting up $(VENV): a minute or a few"
	@$(PYTHON) -c '$(IS_WHOLE)' 2>/dev/null || { echo "installing Debian's python3-venv and python3-dev"; \
	  $(APT) update && $(APT) --yes install --no-install-recommends python3-venv python3-dev >/dev/null; } || true
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { \
	  echo "make: error: no virtual environment; install Python's venv (Debian: apt install python3-venv)"; exit 1; } >&2
	@$(PIP) $(TORCH) 2>$(VENV)/torch.log || { \
	  echo "pip's index has no CPU build of $(TORCH); trying $(TORCH_CPU_INDEX)"; \
	  $(PIP) --extra-index-url $(TORCH_CPU_INDEX) $(TORCH) 2>>$(VENV)/torch.log; } || { \
	  echo "make: error: no $(TORCH) without CUDA (pip's words: $(VENV)/torch.log); name an index with its CPU build:" \
	    "make TORCH_CPU_INDEX=URL, or a folder with its wheel in PIP_FIND_LINKS"; exit 1; } >&2
	@touch $@

demo: setup
	@$(BIN)/python -m quant.cli.demo $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy

test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal

slow: setup
	$(BIN)/python -m pytest -m slow

# Programs for the C engine with their fields at the limits, under both sanitizers; then bundles and reports that are
# nearly right: make fuzz SECONDS=600
fuzz: setup
	@$(BIN)/python tests/fuzzing/fuzz.py $(SECONDS) $(ARGS)
	@$(BIN)/python tests/fuzzing/files.py $(SECONDS) $(ARGS)

bench: setup
	@$(BIN)/python -m quant.cli.bench $(ARGS)

wheels: setup
	@$(PIP) --editable ".[wheels]" || { echo "make: error: a package is missing, see pip's lines above"; exit 1; } >&2
	@$(BIN)/python -m quant.deploy.wheels $(ARGS)

# Debian packages for bookworm and trixie; without root, but with Debian's dpkg-deb and mmdebstrap.
deb: setup
	@$(PIP) --editable ".[deb]" || { echo "make: error: a package is missing, see pip's lines above"; exit 1; } >&2
	@$(BIN)/python -m quant.deploy.debian.package $(ARGS)

# The models that come with the runtime, into edge_runtime/builtin; a test holds them to what a build makes.
builtin: setup
	@$(BIN)/python -m quant.deploy.builtin $(ARGS)

# Instructions a hop on emulated ARM cores, into quant/audit/instructions.json (qemu-user 7.2 and cross compilers).
counts: setup
	@$(BIN)/python tests/counting/count.py $(ARGS)

# The lock, anew, with the newest versions that fit Python 3.10 and all that came after.
lock: setup
	@$(PIP) uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-package torch \
	  --no-emit-package playwright --no-emit-package pyee --no-emit-package greenlet \
	  --no-annotate --no-header --extra build --extra eval --extra dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf build dist .bench *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
