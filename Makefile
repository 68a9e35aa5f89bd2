# Two commands for a fresh machine: `make quickstart` and `make test`. Both install first, once.

# The first that is new enough; DeepChem has releases for 3.11 only, so that is asked first.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH := $(shell grep '^torch==' constraints.txt)

# One thread per process: the tests and the sweep run several processes side by side.
export OMP_NUM_THREADS := 1

.PHONY: install quickstart check test torture bench clean

install: $(STAMP)

# torch comes first and alone: a build for this machine that is already here, or that pip's own index offers, is kept.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "chembench needs python 3.11 or newer, none is on the path; install it or name it: make install PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "chembench needs python 3.11 or newer, got $$("$(PYTHON)" --version); name another: make install PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet '$(TORCH)'
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

quickstart: install
	$(BIN)/chembench sweep --space quickstart

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Three processes on two cores: many tests wait for a server, a dead node or a signal.
test: check
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# Statistics face so many boards with a known truth. Sweeps are killed so many times, from this seed on, and must end as
# undisturbed ones do; given again it goes on.
BOARDS ?= 1000
KILLS ?= 100
SEED ?= 0
torture: install
	PYTHONPATH=tests $(BIN)/python -m torture.statistics --boards $(BOARDS) --seed $(SEED)
	PYTHONPATH=tests:tests/flow $(BIN)/python -m torture --kills $(KILLS) --seed $(SEED)

bench: install
	$(BIN)/python benchmarks/overhead.py --write
	$(BIN)/python benchmarks/resume.py --write
	$(BIN)/python benchmarks/mlflow_runs.py --write
	$(BIN)/python benchmarks/scaling.py --write
	$(BIN)/python benchmarks/descriptors.py --write
	$(BIN)/python benchmarks/corpora.py --write
	$(BIN)/python benchmarks/spread.py --write
	$(BIN)/python benchmarks/tokens.py --write
	$(BIN)/python benchmarks/pretraining.py --molecules 256 --batch-size 128 --rounds 2 --write
	$(BIN)/python benchmarks/pretraining.py --losses --size w64x2 --molecules 2000 --batch-size 32 --write
	$(BIN)/python benchmarks/finetuning.py --write
	@if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; \
		then $(BIN)/python benchmarks/gpu.py --write; else $(BIN)/python benchmarks/gpu.py --none-here; fi

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
