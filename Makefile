# Everything a developer or CI runs. Each target sets up what it needs; nothing but Python, a C++ compiler and make
# has to be there before. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := setup.py $(shell find fastserve_core -name '*.pyx' -o -name '*.pxd' -o -name '*.hpp')
FUZZ_SECONDS ?= 60
SWAPS ?= 1000
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help venv build lint format configs test oldest demo bench bench-core bench-registry bench-sketch bench-watch bench-metrics bench-drift soak fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.installed ## make .venv with everything for serving, tests and the demo

build: $(VENV)/.built ## compile the extensions in place, when a source is newer

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit("fastserve needs Python 3.11 or newer, not " + sys.version.split()[0] \
		+ "; try make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The build's own needs come first, so that building here and now uses the very packages the tests will run with.
$(VENV)/.installed: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check 'setuptools>=77' 'cython>=3.1' 'numpy>=2'
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation -e '.[cpu,dev,demo]'
	@touch $@

$(VENV)/.built: $(VENV)/.installed $(SOURCES)
	$(BIN)/python setup.py -q build_ext --inplace
	@$(BIN)/python -m compileall -q fastserve
	@touch $@

lint: build ## ruff, mypy strict, cython-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint fastserve_core

format: venv ## let ruff arrange the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

configs: build ## write configs/server.yaml anew from the options
	$(BIN)/python -m fastserve.config.reference > configs/server.yaml.new
	mv configs/server.yaml.new configs/server.yaml

# Two files at a time: one after the other they take more than a quarter of an hour.
test: lint ## lint and every test; PYTEST_ARGS='-m "not slow"' for the quick ones
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# Of what users install; the tools of developers are the newest.
oldest: build ## every test with the oldest releases that pyproject.toml allows, in build/oldest
	$(PYTHON) -m venv build/oldest
	$(PYTHON) tests/oldest.py > build/oldest.txt
	build/oldest/bin/python -m pip install -q --disable-pip-version-check -c build/oldest.txt '.[cpu,dev,demo]'
	build/oldest/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

demo: build ## train on real flights, publish, serve, ask
	$(BIN)/fastserve demo

bench: build ## fastserve against its rivals over HTTP (needs wrk and two free cores)
	$(BIN)/python -m benchmarks.http_bench --figures

bench-core: build ## the compiled functions against NumPy and orjson
	$(BIN)/python -m pytest benchmarks/core/bench_*.py --benchmark-only --benchmark-group-by=group -q

bench-registry: build ## start with 200 models x 3 versions, and a look at 10,000 versions
	$(BIN)/python -m benchmarks.registry_bench

bench-sketch: build ## what watching a batch costs, beside reading the same memory and beside NumPy
	$(BIN)/python -m benchmarks.sketch_bench

bench-watch: build ## what watching costs a server, beside the same one not watched (needs wrk and two cores)
	$(BIN)/python -m benchmarks.watch_bench

bench-metrics: build ## how long a page of /metrics takes, beside prometheus_client's own writer
	$(BIN)/python -m benchmarks.metrics_bench

bench-drift: build ## watching rows beside river, whylogs, Evidently, NannyML; each installed apart (4 GB, 15 minutes)
	$(BIN)/python -m benchmarks.drift.rivals --install

soak: build ## SWAPS (1000) of new versions, then of aliases, under 64 connections; about ten minutes
	timeout 3600 $(BIN)/python -m tests.soak.storm --swaps $(SWAPS) --mode publish
	timeout 3600 $(BIN)/python -m tests.soak.storm --swaps $(SWAPS) --mode alias

fuzz: ## FUZZ_SECONDS (60) of libFuzzer on each target in tests/fuzz
	tests/fuzz/run $(FUZZ_SECONDS)

clean: ## remove everything that was built; the virtual environment too
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks
	find fastserve fastserve_core tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
	find fastserve_core -name '*.so' -delete
