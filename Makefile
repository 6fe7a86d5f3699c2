# make demo    a real training run on this machine, in under two minutes
# make test    all tests        make lint   the linters        make bench   the measurements
# make cluster-up    the real Slurm that some tests need, on this machine (Debian, root)
# make cluster-shell a shell of an ordinary user on it         make cluster-down   ends it
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The packages in plugins/ have an environment of their own: hpcest's tests see what users have who have no plugin.
PLUGINS := .venv-plugins
# Most tests wait for processes, so that one worker more than cores keeps the machine busy; tests are long and short, so that
# a worker that has none left takes some of another's.
WORKERS := $(shell expr $$(nproc) + 1)
CLUSTER := $(or $(HPCEST_CLUSTER_DIR),/var/lib/hpcest-cluster)/full/env

.PHONY: demo test lint format docs bench clean help cluster-up cluster-down cluster-shell
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# //p' Makefile

# The user's side: the package with everything it can use.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "hpcest needs Python 3.10 or newer; name one: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all]'
	@touch $@

# The developer's side: what pyproject.toml lists as dev.
$(VENV)/dev: $(VENV)/installed
	UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 $(BIN)/uv pip install --quiet --python $(BIN)/python --group dev
	@touch $@

$(PLUGINS)/installed: $(VENV)/dev $(wildcard plugins/*/pyproject.toml)
	test -x $(PLUGINS)/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python $(PLUGINS)
	UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 $(BIN)/uv pip install --quiet --python $(PLUGINS)/bin/python --group dev \
		--editable '.[all]' $(patsubst %/pyproject.toml,--editable %,$(wildcard plugins/*/pyproject.toml))
	@touch $@

demo: $(VENV)/installed
	$(BIN)/python examples/iris/demo.py demo-workspace
	@echo; echo 'The same by command line:'; echo '  . $(BIN)/activate; cd demo-workspace; hpcest submit ../examples/iris -f; hpcest runs'

# Started as root on Debian the real Slurm comes up first; elsewhere tests that need it are skipped, and say so.
test: $(VENV)/dev $(PLUGINS)/installed
	$(PYTHON) tests/cluster/cluster.py up --if-possible
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)
	[ ! -f $(CLUSTER) ] || . $(CLUSTER); $(PLUGINS)/bin/python -m pytest -n $(WORKERS) --dist worksteal plugins

lint: $(VENV)/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	for plugin in plugins/hpcest-*; do MYPYPATH=$$plugin:$$plugin/tests $(BIN)/mypy --allow-untyped-calls $$plugin || exit 1; done

format: $(VENV)/dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/dev
	$(BIN)/python tests/readme_cli.py

cluster-up cluster-down cluster-shell:
	$(PYTHON) tests/cluster/cluster.py $(subst cluster-,,$@)

bench: $(VENV)/dev
	for bench in benchmarks/bench_*.py; do $(BIN)/python $$bench $(ARGS) || exit 1; done

clean:
	rm -rf $(VENV) $(PLUGINS) demo-workspace build dist .mypy_cache .ruff_cache .pytest_cache
