# make demo    the whole system on this machine, and one purchase      (ONCE=1: end after it; PORT=9000; CONNECTOR=shopify)
# make test    every test; make lint: what reads the code              (both edit nothing)
# make bench   what it costs beside what others would use, in ten minutes (ARGS=--rounds=100; writes docs/performance.md and .svg)
# make simulate  a day at each rate of lost webhooks              (ARGS=--payments=500; writes docs/reliability.md)
# make fuzz    requests that nobody sends, for a minute each            (SECONDS=600; what is found stays in tests/fuzz/findings/)
# make screenshots  docs/screenshots/, by a browser that buys
# make build   the artifact for `sam deploy`, and what it is made of   (PY=3.12 ARCH=x86_64: to run it elsewhere, beside the first)
# make deploy STAGE=test   the stack pocketsflow-test; the first time it asks   (ROLLOUT=…: docs/deploying.md; ARGS=--role-arn=…)
# make delete STAGE=test   all of it but the payments; says where they are
# make audit   known holes in what is pinned, asked of PyPI
SHELL := bash
PYTHON ?= python3
VENV := $(CURDIR)/.venv
export SAM_CLI_TELEMETRY := 0
export PATH := $(VENV)/bin:$(PATH)
# uv knows the public certificate authorities, the machine perhaps one more.
export UV_SYSTEM_CERTS := $(if $(wildcard /etc/ssl/certs/ca-certificates.crt),1,0)
export PY ARCH
EXPRESS := tests/bench/baselines/express
NODE_MODULES := tests/e2e/node_modules $(EXPRESS)/node_modules
OF_STAGE = --config-env $(STAGE) --stack-name pocketsflow-$(STAGE)

.PHONY: demo test simulate fuzz bench screenshots lint audit format build deploy delete stage lock
demo: .venv/sandbox.ready
	python -m sandbox $(if $(ONCE),--once,--demo) $(if $(PORT),--port $(PORT)) $(addprefix --connector ,$(CONNECTOR))

test: .venv/sam.ready $(NODE_MODULES)
	python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

bench: .venv/sam.ready $(EXPRESS)/node_modules
	python -m tests.bench $(ARGS)

simulate: .venv/dev.ready
	PYTHONPATH=functions python -m tests.simulation $(ARGS)

fuzz: .venv/dev.ready
	PYTHONPATH=functions python -m tests.fuzz $(or $(SECONDS),60)

screenshots: .venv/dev.ready
	python -m tests.screenshots

lint: .venv/sam.ready
	ruff check . && ruff format --check . && mypy functions sandbox ops && bandit -q -c pyproject.toml -r functions sandbox ops
	$(VENV)/sam/bin/sam validate --lint && $(VENV)/sam/bin/cfn-lint template.yaml $(filter-out infra/openapi.yaml infra/rollout.yaml,$(wildcard infra/*.yaml))

# dev.txt has all of functions/ and the sandbox in it. What could not be looked up is no pass.
audit: .venv/sam.ready
	$(VENV)/sam/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off -r requirements/dev.txt
	$(VENV)/sam/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off -r requirements/sam.txt

format: .venv/dev.ready
	ruff check --fix . && ruff format .

build: .venv/sam.ready
	$(VENV)/sam/bin/sam build $(if $(PY)$(ARCH),--build-dir .aws-sam/build-$(PY)$(ARCH))
	@$(VENV)/sam/bin/python -W ignore -m cyclonedx_py requirements functions/requirements.txt --pyproject pyproject.toml --output-reproducible -o .aws-sam/sbom.cdx.json
	@python -c 'import base64, hashlib; print("pocketsflow-checkout.js: integrity=\"sha384-" + base64.b64encode(hashlib.sha384(open("storefront/pocketsflow-checkout.js", "rb").read()).digest()).decode() + "\"")'

# The first time it asks, and keeps the answers in samconfig.toml under the stage's name.
deploy: stage build
	$(if $(ROLLOUT),python -m ops.rollout $(ROLLOUT) .aws-sam/build/template.yaml)
	$(VENV)/sam/bin/sam deploy $(OF_STAGE) --capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND --resolve-s3 --s3-prefix pocketsflow-$(STAGE) --no-fail-on-empty-changeset $(if $(CI),--no-confirm-changeset) \
	$(if $(shell grep -s '^\[$(STAGE)\.deploy' samconfig.toml),,--guided --parameter-overrides Stage=$(STAGE)) $(ARGS)

delete: stage .venv/sam.ready
	@kept=$$(pf --stage $(STAGE) kept) && $(VENV)/sam/bin/sam delete $(OF_STAGE) $(ARGS) && echo "$$kept"

stage:
	@[[ "$(STAGE)" =~ ^[a-z][a-z0-9-]{0,15}$$ && "$(STAGE)" != default ]] || { echo 'of which stage? for example: STAGE=test' >&2; exit 2; }

# Versions and hashes of everything, for Python 3.11 and newer, from the *.in files.
lock: .venv/dev.ready
	$(foreach name,functions/requirements requirements/dev requirements/sandbox requirements/sam,\
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	$(if $(findstring functions,$(name)),,-c functions/requirements.txt) $(name).in -o $(name).txt &&) true

.venv/sandbox.ready .venv/dev.ready: .venv/%.ready: requirements/%.txt ops/pf
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("needs Python 3.11 or newer; try: make PYTHON=python3.13 $(MAKECMDGOALS)")'
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv .venv
	$(VENV)/bin/pip install -q --disable-pip-version-check --require-hashes -r $<
	ln -sf ../../ops/pf $(VENV)/bin/pf && touch $@

# Apart, because they hold boto3 and pydantic back.
.venv/sam.ready: requirements/sam.txt .venv/dev.ready
	uv venv -q --clear --python $(VENV)/bin/python $(VENV)/sam
	uv pip install -q --python $(VENV)/sam --require-hashes -r $< && touch $@

# Without npm the tests that need it say so.
$(NODE_MODULES): %/node_modules: %/package-lock.json
	! command -v npm > /dev/null || (npm ci --prefix $* --ignore-scripts --no-audit --no-fund && npm run --prefix $* --if-present bundle && touch $@)
