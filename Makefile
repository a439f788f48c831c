# Each target does all of its own set-up, in a private virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY := PASSIVE
unexport PYTHONDONTWRITEBYTECODE # every process would compile all of the suite again

.PHONY: demo test test-all bench lint clean

demo: $(VENV)/installed  ## the main job at its default scale: ten minutes of two cores
	$(BIN)/nextlat-bench run taxi --objective nextlat

test: $(VENV)/installed
	$(BIN)/pytest -n auto --dist loadfile

test-all: $(VENV)/installed  ## the long tests too, and which lines none of them reaches
	$(BIN)/pytest -m "slow or not slow" -o faulthandler_timeout=3600 \
		--cov --cov-report=term:skip-covered --cov-fail-under=90

bench: $(VENV)/installed  ## speed beside the peers; forty minutes of a machine that does nothing else
	$(BIN)/pip install -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	sh scripts/typecheck.sh $(BIN)/python

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
