PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint clean

demo: .venv/core  ## Parity Check with length generalisation: three models, one table; what ails the one that fails, its remedy, and the card
	$(BIN)/python -m experiments.study --workdir=runs/demo --seeds=0 \
		--config=experiments/reason/parity.py:lstm \
		--config=experiments/reason/parity.py:transformer \
		--config=experiments/reason/parity.py:scratchpad
	$(BIN)/python -m experiments.diagnose --quick --workdir=runs/demo/transformer/seed_0
	$(BIN)/python -m experiments.treat --from=runs/demo/transformer/seed_0 --apply=1 --workdir=runs/demo/treated \
		--seconds=3 --config.evaluate.splits=iid --config.train.steps=350
	$(BIN)/python -m experiments.compare --before=runs/demo/transformer/seed_0 --after=runs/demo/treated --seconds=6

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
