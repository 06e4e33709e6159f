# `make` prints the targets. Each sets up all that it needs from a bare Python 3.11 or 3.12 with pip
# and venv; the environment lies in .venv and is made from hashes alone.
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3,$(if $(shell $(p) -c \
	'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && echo yes),$(p))))
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONDONTWRITEBYTECODE :=
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
LOCKS := requirements.lock requirements/dev.lock requirements/uv.lock
LOCK_FLAGS := -q --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--no-emit-index-url --no-annotate --no-header --exclude-newer 2026-11-15
PYTEST_WORKERS ?= 2
TYPES := mypy src && MYPYPATH=src:benchmarks mypy $(addprefix --disable-error-code ,misc import-untyped import-not-found \
	arg-type assignment call-overload return-value) benchmarks/*.py

.DEFAULT_GOAL := help
.PHONY: help setup fix check test docs reproduce bench consistent audit lock image clean

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.done ## make .venv from the hash-locked requirements
$(VENV)/.done: $(LOCKS) requirements/build.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: expected Python 3.11 or 3.12 with the venv module on the \
	path, found none; install it (Debian, Ubuntu: python3-venv) or call make PYTHON=/path/to/python" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.lock
	@uv pip sync -q --require-hashes --build-constraints requirements/build.lock $(LOCKS)
	@uv pip install -q --no-deps --no-build-isolation --editable .
	@touch $@

fix: setup ## format the code and mend what ruff can
	@ruff format -q . && ruff check -q --fix .

check: setup ## format, lint, types, fast tests
	@ruff format --check -q . && ruff check -q . && $(TYPES)
	@pytest -n $(PYTEST_WORKERS) -m "not slow and not gpu"

test: setup ## all tests that run without a GPU
	@ruff format --check -q . && ruff check -q . && $(TYPES)
	@pytest -n $(PYTEST_WORKERS) -m "not gpu and not docs_slow and not docs_host"

docs: setup ## write docs/reference.md from the code (its commands: pytest tests/test_docs.py)
	@python -m carryover.reference

reproduce: setup ## run the whole pipeline, compare with the committed results, print the summary
	@carryover reproduce --fresh --once

bench: setup ## time our parts against their peers (DATA=FOLDER: with MNIST) -> reports/bench/
	@uv pip install -q --no-deps -r benchmarks/requirements.txt
	@for file in $(filter-out benchmarks/turns.py %_peer.py,$(wildcard benchmarks/*.py)); do python $$file $(if $(DATA),--root $(DATA)) || exit; done

consistent: setup ## hold dvc.lock against dvc.yaml, params.yaml, code and committed results
	@python -m carryover.consistent

audit: setup ## hold the lock against published advisories (needs a network)
	@python requirements/audit.py

lock: ## resolve the locks again (needs setup)
	@uv pip compile $(LOCK_FLAGS) --overrides requirements/overrides.txt -o requirements.lock pyproject.toml
	@uv pip compile $(LOCK_FLAGS) -c requirements.lock -o requirements/dev.lock requirements/dev.in
	@uv pip compile $(LOCK_FLAGS) -o requirements/build.lock requirements/build.in
	@uv pip compile $(LOCK_FLAGS) -o requirements/uv.lock requirements/uv.in

image: ## build the container image (IMAGE_FLAGS: more for docker build)
	docker build -t carryover --build-arg REVISION="$$(git rev-parse HEAD)" \
		--build-arg VERSION="$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" $(IMAGE_FLAGS) .

clean: ## remove the environment, caches and scratch, not results
	rm -rf $(VENV) .scratch .logs .mypy_cache .pytest_cache .ruff_cache dvc_plots
