# make rehearse   from a fresh machine to a verdict: the Friday burst        (arguments: ARMS=all BLOCKS=6)
# make test       every test, the ones on the real cluster included
# make test-fast  every quick test: no cluster, no server
# make bench      the figures, product and peers side by side       (BENCH_ARGS=--ten-million; about 10 minutes)
# make mutation   changes in judge, guards and undo that the tests must see   (MUTATION_ARGS="--area guards --sample 200")
# make examples   one real report per plan, under reports/examples      (PLANS="mx-pod-kill ndots" ARMS=main)
# make setup      .venv/bin/mailgale
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: help setup rehearse test test-fast mutation bench examples lint clean

# The first Python of 3.11 or newer; PYTHON=… names another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
STAMP := .venv/.made-of-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)
ifneq ($(shell uname -s),Linux)
$(error mailgale runs on Linux only, for now: it builds and breaks a real cluster with Linux containers)
endif

help:
	@sed -n 's/^# make/make/p' Makefile

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@deploy/setup-venv "$(PYTHON)" "$@"

rehearse: setup
	$(BIN)/mailgale rehearse $(if $(ARMS),--arms $(ARMS)) $(if $(BLOCKS),--blocks $(BLOCKS))

test: setup
	@deploy/test-peers
	$(BIN)/pytest -m "not bench"

test-fast: setup
	$(BIN)/pytest -n $$(( $$(nproc) + 1 )) --dist loadfile -m "not cluster and not bench and not slow"

bench: setup
	@deploy/test-peers
	$(BIN)/pytest -m bench tests/bench $(BENCH_ARGS)

mutation: setup
	$(BIN)/python -m tests.mutation $(MUTATION_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One real report per plan, made again. What a plan finds (exit 1 or 5) is its result; any other end stops here.
# A sweep takes two hours and is asked for by name.
PLANS ?= $(filter-out %-sweep,$(basename $(notdir $(wildcard experiments/*.yaml))))
examples: setup
	@for name in $(PLANS); do \
	  code=0; \
	  $(BIN)/mailgale run "experiments/$$name.yaml" --arms $(or $(ARMS),all) || code=$$?; \
	  case $$code in 0|1|5) ;; *) exit $$code ;; esac; \
	  run=$$(ls -d reports/runs/*-"$$name"-???? | sort | tail -n 1); \
	  mkdir -p reports/examples/"$$name"; \
	  cp "$$run"/report.html "$$run"/summary.md "$$run"/verdict.json "$$run"/junit.xml reports/examples/"$$name"/; \
	  deploy/picture reports/examples/"$$name"/report.html reports/examples/"$$name"/report.png; \
	done

# What was made here, but for runs and the cluster ('mailgale cluster down').
clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
