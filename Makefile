# The commands of this project; `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ONLY ?=
ARTIFACT := tests/artifact
PROOFS := $(ARTIFACT)/test_identical.py $(ARTIFACT)/test_updates.py $(ARTIFACT)/test_container_updates.py \
  $(ARTIFACT)/test_rpi.py::test_a_card_boots_from_its_own_partitions_and_answers[rpi4] \
  $(ARTIFACT)/test_container_boot.py::test_the_arm64_image_boots_and_answers_under_qemu \
  $(ARTIFACT)/test_lambda.py::test_arm64_on_the_managed_python_runs_under_qemu_with_a_stand_in \
  $(ARTIFACT)/test_lambda.py::test_arm64_runs_under_qemu_where_no_processor_can_be_looked_at \
  $(ARTIFACT)/test_jetson.py::test_an_artifact_with_a_wheel_boots_on_the_cpu_and_says_where_models_should_run \
  tests/targets/rpi/test_apt.py
BOARD ?= rpi4

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format e2e card prove bench targets parity clients aws kube lock clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lsbuild needs Python 3.11 or newer; say make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

setup: $(STAMP) ## make .venv with lsbuild and its tools (.venv/bin/lsbuild)

demo: setup ## compile examples/quickstart, boot it, ask it a question over HTTP
	$(BIN)/python examples/quickstart/demo.py

test: setup ## run every test that this machine has the tools for
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: setup ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

e2e: setup ## the long tests as well: every artifact built and booted
	LSBUILD_E2E=1 $(BIN)/python -m pytest -q

card: setup ## build the image of a card and boot it by its own kernel in QEMU (BOARD=rpi5: minutes)
	LSBUILD_E2E=1 $(BIN)/python -m pytest -q -rsP tests/artifact/test_rpi.py -k "card and $(BOARD)"

prove: setup ## what CI proves beside make test: the same bytes twice, boots under emulation, updates of real artifacts
	LSBUILD_E2E=1 $(BIN)/python -m pytest -q -rs --durations=10 $(PROOFS)

bench: setup ## side-by-side figures against named peers (ONLY=decode for one)
	$(BIN)/python -m bench $(ONLY)

targets: setup ## build the quickstart for every target, verify all of them, and write their table into README.md
	-$(BIN)/lsbuild doctor --fetch >/dev/null
	$(BIN)/python -m bench.targets --write README.md

parity: setup ## an environment with torch and transformers, against which the float graphs are compared
	test -x .venv-parity/bin/python || $(PYTHON) -m venv .venv-parity
	.venv-parity/bin/python -m pip install -q --disable-pip-version-check torch==2.13.0
	.venv-parity/bin/python -m pip install -q --disable-pip-version-check -r requirements/parity.txt

clients: setup ## an environment with the agent frameworks and SDKs that drive a booted artifact in the tests
	test -x .venv-clients/bin/python || $(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip install -q --disable-pip-version-check -r requirements/clients.txt

aws: setup ## an environment with AWS's SAM: its emulator and linters, for functions and their templates
	test -x .venv-aws/bin/python || $(PYTHON) -m venv .venv-aws
	.venv-aws/bin/python -m pip install -q --disable-pip-version-check -r requirements/aws.txt

kube: setup ## an environment with the schemas of Kubernetes, Knative, KServe and Compose, for the files that deploy an image
	test -x .venv-kube/bin/python || $(PYTHON) -m venv .venv-kube
	.venv-kube/bin/python -m pip install -q --disable-pip-version-check -r requirements/kube.txt
	.venv-kube/bin/python -m pip install -q --disable-pip-version-check --no-deps kserve==0.21.0
	cd .venv-kube && PATH="$$PWD/bin:$$PATH" npm install --silent --no-audit --no-fund --prefix . @kubernetes-models/knative@4.0.0

lock: setup ## pin the development environment again, with hashes
	$(BIN)/uv pip compile -q pyproject.toml --extra dev --universal --generate-hashes --no-annotate --no-header --upgrade -o requirements/dev.txt

clean: ## remove what the build wrote here (the cache stays: lsbuild cache clear)
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
