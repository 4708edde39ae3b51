# Two commands do everything on a machine with Python 3.11+, pip and make: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
NAME ?= sudoku

.PHONY: demo test test-slow lint format clean

# An example with its picture; NAME=expressivity for another.
demo: $(VENV)/installed-examples
	$(RUN) examples/$(NAME).py --output $(NAME).png

# Lint, types, and every test that takes seconds; then those that take longer.
test: lint
	$(RUN) -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(VENV)/installed-test
	$(RUN) -m pytest -m slow -n 2 --dist loadfile

lint: $(VENV)/installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright

format: $(VENV)/installed-test
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

$(VENV)/installed-%: pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache dist build
