PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Properties of treatments, the contract of each config's first variant, the architecture, and one tiny run of the command.
QUICK := tests/train/test_laws.py tests/test_contract.py tests/test_floors.py tests/test_tiny.py

.PHONY: demo test quick lint clean

# The same updates and examples for all three models: enough for the LSTM to learn strings of 1-20 bits.
DEMO := --config.task.lengths=1:20 --config.train.steps=600 --config.train.batch_size=32 \
	--config.evaluate.splits=iid,21-200 --config.evaluate.per_length=4

demo: $(VENV)/core  ## Parity Check with length generalization: trains three models, diagnoses and treats the one that fails, and compares
	$(BIN)/assay study --workdir=runs/demo --seeds=0 $(DEMO) \
		--config=experiments/reason/parity.py:lstm \
		--config=experiments/reason/parity.py:transformer \
		--config=experiments/reason/parity.py:scratchpad
	$(BIN)/assay diagnose --quick --workdir=runs/demo/transformer/seed_0
	$(BIN)/assay treat --from=runs/demo/transformer/seed_0 --apply=1 --workdir=runs/demo/treated \
		--seconds=3 --config.evaluate.splits=iid --config.train.steps=300
	$(BIN)/assay compare --before=runs/demo/transformer/seed_0 --after=runs/demo/treated --seconds=6

test: $(VENV)/test  ## every test, and the ten slowest
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=8 --dist=loadscope --durations=10

quick: $(VENV)/test  ## the fast tests with the widest coverage, in about two minutes
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=8 --dist=load -m "not another_variant" $(QUICK)

lint: $(VENV)/test  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check lib experiments tests
	$(BIN)/mypy

clean:  ## the environment and the runs
	rm -rf $(VENV) runs

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# --no-compile: Python compiles what is imported, when it is; compiling all that is installed takes half of the installation.
$(VENV)/core: pyproject.toml setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --editable .
	touch $@

$(VENV)/test: pyproject.toml setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --editable ".[test]"
	touch $(VENV)/core $@
