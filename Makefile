# A bare Debian machine with make and python3 is enough: `make labs`.
# YES=1 (or no terminal) answers yes where `labctl host prepare` would ask.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help labs test check fix unit cluster-test prepare docs lock package clean

BIN := .venv/bin
LABCTL := $(BIN)/labctl
PY := $(BIN)/python
STAMP := .venv/stamp
REPORTS := reports
LABS ?= 9-15
CONFIG ?= three-nodes

help: ## show these lines
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

labs: prepare ## prepare this machine, make and prove a cluster, run the labs on it, keep it
	$(LABCTL) ci $(CONFIG) --labs $(LABS) --keep always \
	  --junit $(REPORTS)/labs.xml --html $(REPORTS)/labs.html --bundle $(REPORTS)/bundles

test: check unit ## everything: check, unit, then real clusters (prepares this machine; about an hour, with a cold image build 13 minutes more)
	$(MAKE) cluster-test YES=1

check: $(STAMP) $(BIN)/actionlint ## ruff, mypy, import contracts, workflow linters
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/actionlint
	$(BIN)/zizmor --offline --no-progress --quiet .github

fix: $(STAMP) ## let ruff repair and format what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit: $(STAMP) ## the unit tests: no docker, no network, about a minute
	$(PY) -m pytest tests/unit

cluster-test: prepare ## the tests on real clusters
	$(PY) -m pytest tests/cluster

prepare: $(STAMP)
	if [ -n "$(YES)" ] || ! [ -t 0 ]; then $(LABCTL) host prepare --yes; else $(LABCTL) host prepare; fi

docs: $(STAMP) ## write docs/cli.md from --help
	$(PY) -m labctl.cli.reference > docs/cli.md

lock: ## renew requirements/*.txt from pyproject.toml (needs uv)
	uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --custom-compile-command "make lock" \
	  pyproject.toml -o requirements/run.txt
	uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --custom-compile-command "make lock" \
	  pyproject.toml --group dev -c requirements/run.txt -o requirements/dev.txt

package: $(STAMP) ## build the wheel and the source archive into dist/
	$(PY) -m hatchling build

clean: ## remove what make made here; clusters and images stay (labctl down, docker rmi)
	rm -rf .venv dist build $(REPORTS) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .pytest-kind
	find labctl tests labs -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements/dev.txt pyproject.toml .ci/venv
	.ci/venv

$(BIN)/actionlint: $(STAMP) .ci/actionlint .ci/modules/go.sum
	$(PY) .ci/actionlint
