# `make demo` and `make test` need python3 (3.11 or newer), git and nothing else: the first of them to run sets .venv up.

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin

# The environment belongs to this folder and to these two files: their checksum is the stamp's name.
STAMP := $(VENV)/installed-$(shell (pwd && cat requirements.lock pyproject.toml) | cksum | tr -c '0-9\n' '-')
LOG := $(VENV)/install.log
PIP := $(BIN)/python -m pip
PIP_OPTIONS := --disable-pip-version-check --no-input

# pip prints hundreds of lines: they go to the log, and a terminal gets one that counts the packages.
define COUNT_PACKAGES
total=$$(grep -c '^[a-z].*==' requirements.lock); count=0; \
while IFS= read -r line; do \
  printf '%s\n' "$$line" >&3; \
  case $$line in \
    Collecting*|Processing*|"Requirement already"*|Ignoring*) count=$$((count + 1)); shown="$$count of $$total packages";; \
    "Installing collected"*) shown="installing $$total packages";; \
    "exit code "*) [ -t 1 ] && printf '\r\033[K'; exit "$${line##* }";; \
    *) continue;; \
  esac; \
  [ -t 1 ] && printf '\r\033[K  %s' "$$shown"; \
done 3> $(LOG)
endef

.PHONY: help demo test quick lint gpu install clean

help:
	@echo "make demo     set up where needed, train the demo's 12 runs, show its table"
	@echo "make test     set up where needed, then all checks and all tests"
	@echo "make quick    the same without the slow tests"
	@echo "make lint     the checks alone: ruff and mypy"
	@echo "make gpu      on a machine with a GPU, 10 minutes: the tests that need one, then our speed against a standard loop;"
	@echo "              LONG=1 measures more, AGAIN=1 repeats what was done before"
	@echo "make install  the set-up alone, into $(VENV)"
	@echo "make clean    remove $(VENV) and caches; results and data stay"

demo: $(STAMP)
	@$(BIN)/biasrepro sweep demo
	@$(BIN)/biasrepro table demo

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

quick: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

gpu: $(STAMP)
	PYTHON=$(BIN)/python benchmarks/gpu.sh $(if $(LONG),--long) $(if $(AGAIN),--again)

install: $(STAMP)

$(STAMP):
	@command -v $(PYTHON) > /dev/null || { \
	  echo "There is no $(PYTHON) here. biasrepro needs Python 3.11 or newer: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$$($(PYTHON) --version) is too old: biasrepro needs 3.11 or newer. With another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
	  echo "This Python comes without venv. On Debian and Ubuntu: apt install python3-venv"; \
	  exit 1; }
	@echo "Setting up $(VENV) from requirements.lock: 7 GB with PyTorch, some minutes, once."
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@{ $(PIP) install $(PIP_OPTIONS) --require-hashes -r requirements.lock 2>&1 \
	  && $(PIP) install $(PIP_OPTIONS) --no-build-isolation --no-deps -e . 2>&1; echo "exit code $$?"; } \
	| { $(COUNT_PACKAGES); } || { \
	  tail -n 30 $(LOG); echo "The installation failed. All that pip printed is in $(LOG). The same command tries again."; exit 1; }
	@rm -f $(VENV)/installed-*
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist
