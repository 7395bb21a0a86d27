# Every command of this repository; `make help` lists them. A fresh machine needs git, make and Python 3.11 or later with
# its venv: uv is taken from the PATH, else put into .uv/ from PyPI. It never downloads a Python.
.DEFAULT_GOAL := help
.PHONY: help demo test check lint corpus test-hapi bench burst faults fuzz scale walks docs image bench-peers clean

export UV_PYTHON_DOWNLOADS := never
STEPS := 0,1,2,3,4,6,7,12,13,14
CORPUS ?= ../shared/corpus

UV := $(shell command -v uv 2>/dev/null)
ifeq ($(UV),)
UV := .uv/bin/uv
endif
RUN := $(UV) run --frozen

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(UV)  ## the engine between a pretend EHR and a pretend phone, in the browser; offline, invented people
	$(RUN) --no-dev bridge demo

test: $(UV)  ## every test; PostgreSQL and the sandbox are started by the tests themselves
	$(RUN) pytest -n 3 --dist loadfile

lint: $(UV)  ## style, types, import contracts, and the configuration we ship
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) bridge check --no-secrets

check: test lint  ## what CI runs: test, lint, and the demo's script
	$(RUN) bridge demo --script $(STEPS)

corpus: $(UV)  ## every recorded notification and webhook through the running doors: expected and got
	@test -d $(CORPUS) || { echo "no $(CORPUS): set CORPUS=folder"; exit 2; }
	$(RUN) python -m tests.corpus $(CORPUS)

test-hapi: $(UV)  ## the round trip through a real HAPI FHIR server; needs java and mvn
	@command -v java >/dev/null && command -v mvn >/dev/null || { echo "needs java and mvn"; exit 2; }
	BRIDGE_TEST_HAPI=1 $(RUN) pytest -m hapi -ra || { code=$$?; [ $$code -eq 5 ] && echo "no such tests here"; }

bench: $(UV)  ## throughput, latency, memory: both stores, core and complete
	$(RUN) bridge bench
	$(RUN) python -m bench.burst --count 7000

burst: $(UV)  ## 50,000 reminders due at nine, a set rate, a storm of 10 minutes, several numbers: about 50 minutes
	$(RUN) python -m bench.burst --storm 600

fuzz: $(UV)  ## a million mutated notifications and webhooks at the running doors, and as many at the readers alone
	$(RUN) python -m bench.fuzz --count 1000000

bench-peers: $(UV)  ## bridge beside Node-RED, Apache Camel and a 120-line bridge, same work, interleaved rounds
	$(RUN) python -m bench.peers $(ARGS)

faults: $(UV)  ## kills, sockets, stores that are away, and every other fault of the list: demanded and reached; hours
	$(RUN) python -m bench.faults

soak: $(UV)  ## two hours at 50 events a second with a random fault every five minutes; a table at the end
	$(RUN) python -m bench.soak

walks: $(UV)  ## every walk of length <= 5 of a visit (111,110), on both stores, judged by what the pretend phone got
	$(RUN) python -m tests.engine.all_walks

scale: $(UV)  ## several nodes on hosts of their own (network namespaces: root), failover of PostgreSQL, cost as rows and nodes grow
	$(RUN) python -m bench.scale

docs: $(UV)  ## docs/cli.md and docs/config.md, made of the code; a test says when they are not current
	$(RUN) python -m tools.docs_pages

image:  ## the container image
	docker build -t fhir-whatsapp-bridge .

clean:  ## what make and the tests have made
	rm -rf .venv .uv dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .peers bench/peers/camel/target

.uv/bin/uv:
	@for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	  "$$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  echo "uv is not on the PATH: putting it into .uv/ with $$python"; \
	  "$$python" -m venv .uv && .uv/bin/python -m pip install --quiet --disable-pip-version-check uv && exit 0; \
	  rm -rf .uv; echo "$$python could not make .uv/: is its venv (Debian: python3-venv) there?"; exit 1; \
	done; \
	echo "needs Python 3.11 or later on the PATH"; exit 1
