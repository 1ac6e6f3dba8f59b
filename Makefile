# Everything a developer does here, by one word. `make` lists the words.
PYTHON ?= python3
BIN := .venv/bin
PROTOS := $(wildcard protos/entitlements/v1/*.proto)
LISTEN ?= 127.0.0.1:50051

.DEFAULT_GOAL := help
.PHONY: help setup run proto lint contract test check bench faults clean docs

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[server,redis,cli,fastapi,otel,example,dev]'
	touch $@

setup: .venv/.ready ## make .venv with everything pinned

run: .venv/.ready ## serve on 127.0.0.1:50051, ledger in ./data
	mkdir -p data
	$(BIN)/entitlements-server serve --listen $(LISTEN) --store sqlite://$(CURDIR)/data/ledger.sqlite

proto: .venv/.ready ## generate the stubs from protos/
	$(BIN)/python -m grpc_tools.protoc --proto_path=protos --proto_path="$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
		--python_out=client --pyi_out=client --grpc_python_out=client $(PROTOS)

lint: .venv/.ready ## ruff and mypy strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

contract: .venv/.ready ## buf lint, breaking changes, stub drift
	protos/check

docs: .venv/.ready ## draw docs/imports.svg from the code
	PYTHONPATH=tests $(BIN)/python -m support.imports

# They wait more than they work, so there is one worker more than a small machine has cores.
WORKERS ?= 3

test: .venv/.ready ## run every test, several at a time
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: lint contract test ## what CI runs: lint, the contract, every test

bench: .venv/.ready ## measure beside servers that do nothing, and others; prints a table
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement bench/requirements.txt
	$(BIN)/python bench/run.py

faults: .venv/.ready ## break it on purpose, at full length; prints a table
	PYTHONPATH=tests $(BIN)/python -m faults.run $(CHECKS)

clean: ## remove .venv and caches; ./data stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
