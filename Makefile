# Two commands do everything on a fresh clone: `make demo` and `make test`.
PY := .venv/bin/python
.DEFAULT_GOAL := help
# Compiled modules are worth keeping: without them every process that imports MLflow compiles it for three seconds.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help setup demo test test-slow images test-images e2e test-programs model-train model-publish model-pipeline bench stats-report bench-quick check format crd chart kustomize dashboard lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.ready ## Make .venv from the locked requirements

.venv/.ready: requirements/dev.txt scripts/setup $(wildcard packages/*/pyproject.toml services/*/pyproject.toml)
	@scripts/setup

demo: .venv/.ready ## Serve real flights: champion and challenger share live traffic (ARGS="--exit" to stop after the table)
	@$(PY) -m examples.flights.demo $(ARGS)

# Tests wait for processes half of their time, so two run beside each other; those of one file in their order, by one
# worker. WORKERS=0 for one process (--pdb wants that).
test: WORKERS ?= 2
test: .venv/.ready ## The fast tests (under 9 minutes on 2 cores)
	@$(PY) -m pytest -m "not slow and not images" -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: .venv/.ready ## The rest: the whole demo, kill loops
	@$(PY) -m pytest -m slow --timeout 900 $(ARGS)

images: ## Build the images with docker, podman or buildah (ARGS="gateway" for one; PREFIX, TAG, BASE)
	@scripts/images $(ARGS)

test-images: .venv/.ready ## Build the images on a Debian made here and start them; as root, with podman and buildah of Debian (6 minutes)
	@$(PY) -m pytest tests/images -m images --timeout 1800 $(ARGS)

e2e: .venv/.ready ## The cluster scenarios on a real one: KUBECONFIG=FILE [IMAGE_REGISTRY=... TAG=dev REACH=port-forward|pods]
	@test -n "$(KUBECONFIG)" || { echo "make e2e KUBECONFIG=FILE: which cluster? See CONTRIBUTING.md" >&2; exit 2; }
	@KINGMAKER_E2E_KUBECONFIG="$(KUBECONFIG)" IMAGE_REGISTRY="$(IMAGE_REGISTRY)" TAG="$(or $(TAG),dev)" REACH="$(or $(REACH),port-forward)" \
		$(PY) -m pytest tests/cluster --timeout 900 $(ARGS)

test-programs: ## Install what tests call beyond Python: Prometheus, Redis, wrk, actionlint (Debian or Ubuntu)
	@scripts/test-programs

# The model pipeline, here and in .github/workflows/model.yaml. Recipes read these from the environment, so that a value is
# never taken for a command. Without a registry named it is a file under build/.
model-train model-publish: export MODEL_DIR ?= build/model
model-train: export UNTIL ?= 2013-03-01
model-publish: export MODEL_NAME ?= flights
model-publish: export MODEL_LABEL ?= late
model-publish: export MIN_AUC ?= 0.90
model-publish: export MLFLOW_TRACKING_URI ?= sqlite:///build/mlflow.db

model-train: .venv/.ready ## Check flights before the day UNTIL and train a new challenger on them, into MODEL_DIR
	@$(PY) -m examples.flights.retrain --to "$$MODEL_DIR" --until "$$UNTIL"

model-publish: .venv/.ready ## Publish what is in MODEL_DIR as @challenger, if its AUC is MIN_AUC at least
	@$(PY) -m kingmaker publish "$$MODEL_DIR/pipeline.joblib" --name "$$MODEL_NAME" --label "$$MODEL_LABEL" --min-auc "$$MIN_AUC" \
	    --reference "$$MODEL_DIR/reference.parquet" --evaluation "$$MODEL_DIR/evaluation.parquet" --alias challenger

model-pipeline: ## model-train, then model-publish
	@$(MAKE) --no-print-directory model-train
	@$(MAKE) --no-print-directory model-publish

bench: .venv/.ready ## Beside Envoy, nginx, MLServer, KServe and BentoML: benchmarks/results/ and docs/performance.md (under 15 minutes)
	@$(PY) -m benchmarks $(ARGS)

stats-report: .venv/.ready ## How often drift verdicts are wrong and right, by simulation: docs/statistics.md (about 3 minutes)
	@$(PY) -m benchmarks.verdicts $(ARGS)

bench-quick: .venv/.ready ## The core ratios into build/bench-quick.json (about 2 minutes)
	@$(PY) -m benchmarks --quick $(ARGS)

check: .venv/.ready ## What a change must pass before tests: ruff, mypy --strict (tests too), import-linter
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy packages services examples benchmarks deploy tests conftest.py
	@.venv/bin/lint-imports --no-cache

format: .venv/.ready ## Format the code
	@.venv/bin/ruff check --fix-only --quiet . ; .venv/bin/ruff format .

crd: .venv/.ready ## Write deploy/k8s/crd/ anew from packages/contracts
	@$(PY) scripts/crd
	@$(PY) -m deploy.helm.definition

chart: .venv/.ready ## Write the chart anew from its definition, the CRD, alerts and dashboard, and deploy/k8s/base from it
	@$(PY) -m deploy.helm.definition
	@scripts/kustomize

kustomize: .venv/.ready ## Write deploy/k8s/base anew from the chart
	@scripts/kustomize

dashboard: .venv/.ready ## Write deploy/monitoring/dashboards/ anew from scripts/dashboard
	@$(PY) scripts/dashboard
	@$(PY) -m deploy.helm.definition

lock: ## Resolve dependencies anew and export requirements/*.txt
	@scripts/lock $(ARGS)

clean: ## Remove what builds and demos left
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
