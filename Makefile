# The whole manual: make setup | demo | check | test | bench | wheels
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install --constraint constraints.txt
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo -n)
# Debian keeps these apart from Python itself: venv with pip, and the headers that PESQ is compiled with.
IS_WHOLE := import ensurepip, sysconfig; open(sysconfig.get_path("include") + "/Python.h")
APT := $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get -qq

.PHONY: setup demo check test slow bench counts wheels clean

setup: $(VENV)/.ready

# In steps, so that each failure has its own line of remedy.
$(VENV)/.ready: pyproject.toml constraints.txt
	@echo "setting up $(VENV): a minute or a few"
	@$(PYTHON) -c '$(IS_WHOLE)' 2>/dev/null || { echo "installing Debian's python3-venv and python3-dev"; \
	  $(APT) update && $(APT) --yes install --no-install-recommends python3-venv python3-dev >/dev/null; } || true
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { \
	  echo "make: error: no virtual environment; install Python's venv (Debian: apt install python3-venv)"; exit 1; } >&2
	@$(PIP) torch==2.13.0 || { \
	  echo "make: error: no torch 2.13.0 without CUDA; name an index with its CPU build in PIP_EXTRA_INDEX_URL, or a" \
	    "folder with its wheel in PIP_FIND_LINKS, or install that wheel with $(BIN)/pip, and run make again"; \
	  exit 1; } >&2
	@$(PIP) --editable ".[build,train,eval,dev]" || { \
	  echo "make: error: a package is missing, see pip's lines above; PESQ is compiled (Debian: apt install gcc" \
	    "python3-dev)"; exit 1; } >&2
	@touch $@

demo: setup
	@$(BIN)/python -m quant.cli.demo $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy

test: setup
	$(BIN)/python -m pytest -n 2

slow: setup
	$(BIN)/python -m pytest -m slow

bench: setup
	@$(BIN)/python -m quant.cli.bench $(ARGS)

wheels: setup
	@$(PIP) --editable ".[wheels]" || { echo "make: error: a package is missing, see pip's lines above"; exit 1; } >&2
	@$(BIN)/python -m quant.deploy.wheels $(ARGS)

# Instructions a hop on emulated ARM cores, into quant/audit/instructions.json (qemu-user 7.2 and cross compilers).
counts: setup
	@$(BIN)/python tests/counting/count.py $(ARGS)

clean:
	rm -rf build dist .bench *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
