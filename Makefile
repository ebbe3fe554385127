# `make` alone lists what there is. Everything may be repeated; what is already done is not done again.
SHELL := /bin/bash
.DEFAULT_GOAL := help

bin := .venv/bin
reference := mcp_spaces.cli.reference
shell_scripts := scripts/setup .ci/run

.PHONY: help setup image demo test check bench docs clean venv

help: ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## virtual environment, Docker engine, images, test clients
	@scripts/setup all

image: ## the images of sandboxes and browsers
	@scripts/setup image

demo: ## set up, then show an agent at work in a sandbox
	@scripts/setup demo -- $(bin)/python -m examples.demo

test: ## set up, then run every test (ARGS="-k words" for some)
	@scripts/setup all -- $(bin)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: venv ## format, lint, types, who imports whom, generated reference, shell scripts
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/mypy $(wildcard mcp_spaces tests examples benchmarks)
	$(bin)/lint-imports
	$(bin)/shellcheck $(shell_scripts)
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT \
	  && $(bin)/python -m $(reference) "$$fresh" \
	  && { diff -ru docs/reference "$$fresh" || { echo 'docs/reference is out of date: run `make docs`'; exit 1; }; }

bench: ## figures, each beside a raw baseline
	@scripts/setup demo -- $(bin)/python -m benchmarks $(ARGS)

docs: venv ## write docs/reference from the catalogue
	$(bin)/python -m $(reference) docs/reference

clean: ## remove what set-up and tools made here (not the engine, not its images)
	rm -rf .venv .tools .state .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist wheels
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv:
	@scripts/setup venv
