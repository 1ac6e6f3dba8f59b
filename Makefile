# Everything a developer does here, by one word. `make` lists the words.
PYTHON ?= python3
BIN := .venv/bin
PROTOS := $(wildcard protos/entitlements/v1/*.proto)
# gRPC's generator writes a module for each file it is given, empty where there is no service.
SERVICES = $(shell grep -l '^service ' $(PROTOS))
PROTOC = $(BIN)/python -m grpc_tools.protoc --proto_path=protos --proto_path=protos/third_party/googleapis
LISTEN ?= 127.0.0.1:50051

.DEFAULT_GOAL := help
.PHONY: help setup run proto docs lint contract test test-all coverage check audit versions dist bench bench-stores faults clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' # the first that knows groups
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --group dev --group example --editable '.[server,postgresql,redis,cli,fastapi,otel]'
	touch $@

setup: .venv/.ready ## make .venv with everything pinned

run: .venv/.ready ## serve on 127.0.0.1:50051, ledger in ./data
	mkdir -p data
	$(BIN)/entitlements-server serve --listen $(LISTEN) --store sqlite://$(CURDIR)/data/ledger.sqlite

proto: .venv/.ready ## generate the stubs from protos/
	$(PROTOC) --python_out=client --pyi_out=client $(PROTOS)
	$(PROTOC) --grpc_python_out=client --mypy_grpc_out=quiet:client --plugin=$(BIN)/protoc-gen-mypy_grpc $(SERVICES)

docs: .venv/.ready ## generate docs/errors.md, docs/imports.svg and the table in docs/proof.md
	$(BIN)/python docs/generate.py
	PYTHONPATH=tests $(BIN)/python -m support.imports
	PYTHONPATH=tests $(BIN)/python -m support.forgeries

lint: .venv/.ready ## ruff and mypy strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

contract: .venv/.ready ## buf lint, breaking changes, stub drift
	protos/check

# They wait more than they work, so there is one worker more than a small machine has cores.
WORKERS ?= 3
# Hundreds of processes are started, and each would compile this project again.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test: .venv/.ready ## run the tests that are quick: under a minute
	$(PYTEST) -m "not slow" $(ARGS)

test-all: .venv/.ready ## run every test, as CI does
	$(PYTEST) $(ARGS)

coverage: .venv/.ready ## run every test, and show which lines none of them reaches
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-report=html $(ARGS)

check: lint contract test-all ## what CI runs: lint, the contract, every test

dist: .venv/.ready ## build the wheel and the sdist in dist/, check them; install linters for what deploys them
	rm -rf dist
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --group release
	$(BIN)/python -m hatchling build
	$(BIN)/python -m twine check --strict dist/*

audit: .venv/.ready ## look up known vulnerabilities of what constraints.txt pins
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --group audit 2>/dev/null || true
	.ci/audit

versions: .venv/.ready ## the rules, API and transport on the newest Python, and on the lowest versions of dependencies
	.ci/versions

bench: .venv/.ready ## measure beside servers that do nothing, and others; prints a table
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement bench/requirements.txt
	$(BIN)/python bench/run.py

bench-stores: .venv/.ready ## measure each store beside FastAPI on PostgreSQL, and workers; prints tables
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement bench/requirements.txt
	$(BIN)/python bench/stores.py $(ARGS)

faults: .venv/.ready ## break it on purpose, at full length; prints a table
	PYTHONPATH=tests $(BIN)/python -m faults.run $(CHECKS)

clean: ## remove .venv and caches; ./data stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
