# Two commands are enough:  make demo   and   make test.  Each sets up what it needs, once.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test setup chromium unsloth lab export readme clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# On a machine without a GPU elsewhere: make setup TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
STAMP := .venv/.fgnb-setup
# pip compiles on one core; setup compiles on all of them afterwards.
PIP := python -m pip install -q --disable-pip-version-check --no-compile
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport PYTHONPATH
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -n)

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | while IFS=$$'\t' read -r name what; do printf '  make %-9s %s\n' "$$name" "$$what"; done

demo: setup ## set up, fine-tune on the shipped commands, score, export, report; offline, minutes on two cores
	fgnb run quickstart

test: setup chromium ## set up, then every gate and test
	python -m pytest -n logical --maxprocesses 4 tests --durations=25 --durations-min=10

setup: $(STAMP) ## make .venv with everything in it (redone only when the requirements change)

$(STAMP): settings.ini setup.py constraints.txt
	@"$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and f"fgnb needs Python 3.11 or newer, this is {v[0]}.{v[1]}; try make PYTHON=/path/to/python3.11")'
	@echo "== making .venv with $(PYTHON)"
	@[ -x .venv/bin/python ] || "$(PYTHON)" -m venv .venv
	@echo "== installing torch"
	@$(PIP) $(TORCH)
	@echo "== installing fgnb and what it uses (versions from constraints.txt)"
	@$(PIP) -c constraints.txt -e ".[train,export,label,sources,teacher,dev]"
	@python -m compileall -qq -j 0 .venv/lib || true # some packages bring files that are meant for other Pythons
	@touch $@; echo "== ready: .venv"

# The browser tests need a browser from the system, and a Chinese font to be looked at; where neither can be installed the tests say so and are skipped.
chromium:
	@want=""; command -v chromium chromium-browser google-chrome >/dev/null || want="chromium"; \
	fc-list :lang=zh 2>/dev/null | grep -q . || want="$$want fonts-noto-cjk"; \
	[ -z "$${want// /}" ] || { \
	  echo "== not here: $$want; trying apt-get install (the browser tests need it)"; \
	  { $(SUDO) timeout 60 apt-get -qq -o Acquire::Retries=0 update && DEBIAN_FRONTEND=noninteractive $(SUDO) timeout 300 apt-get -qq install -y $$want; } >/dev/null 2>&1 \
	  || echo "== could not be installed: $$want; the browser tests will be skipped, or show boxes for Chinese"; }

unsloth: setup ## also the engine unsloth (without its GPU packages where there is no GPU)
	if command -v nvidia-smi >/dev/null; then python -m pip install -q -c constraints.txt -e ".[unsloth]"; else python -m pip install -q --no-deps unsloth==2026.10.9 unsloth_zoo==2026.10.9; fi

lab: setup ## open the workflow notebooks in JupyterLab
	jupyter lab --LabApp.default_url=/lab/tree/nbs/workflows/01_data_preview.ipynb

export: setup ## notebooks -> fgnb/
	nbdev_export

readme: setup ## nbs/index.ipynb -> README.md
	python .ci/readme.py

clean: ## remove .venv and caches; runs and data stay
	rm -rf .venv fgnb.egg-info .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
