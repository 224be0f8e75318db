PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint clean

demo: .venv/core  ## Parity Check with length generalisation: three models, one table, one page
	$(BIN)/python -m experiments.study --workdir=runs/demo --seeds=0 \
		--config=experiments/reason/parity.py:lstm \
		--config=experiments/reason/parity.py:transformer \
		--config=experiments/reason/parity.py:scratchpad

test: .venv/test  ## every test
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=8 --dist=loadscope

lint: .venv/test  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check lib experiments tests
	$(BIN)/mypy

clean:  ## the environment and the runs
	rm -rf .venv runs

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/core: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/test: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch .venv/core $@
