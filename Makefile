# Needs Linux, python3 (3.11 or later, with venv) and make; `make` alone lists what there is to make.
# Paths are relative and tools run as modules: a checkout below a directory with a space in its name
# breaks `$(CURDIR)` in prerequisites, and the first line of every script in a virtual environment.

# As root, the tests and the demo start programs as other users: take a python3 that those can execute too.
ifeq ($(shell id -u),0)
for_all := $(shell setpriv --reuid=65534 --regid=65534 --clear-groups \
    sh -c 'python3 -c "import sys; sys.version_info >= (3, 11) and print(sys.executable)"' 2>/dev/null)
endif
PYTHON ?= $(or $(for_all),python3)
VENV_PYTHON = .venv/bin/python
# Processes that share the tests, most of which wait for others.
JOBS ?= 6

.PHONY: help native demo check test lint bench docs man lowest packages release-check sample sbom fuzz faults mutants coverage clean modes

help:
	@echo 'make demo    an unprivileged service, the daemon and an attacker, on this machine, in a minute'
	@echo 'make check   lint, then the tests that need no daemon: about a minute'
	@echo 'make test    lint, then every test (root-only ones are skipped for a plain user)'
	@echo 'make lint    ruff, mypy and the import contracts'
	@echo 'make native  the programs in C: what changes identity and limits before a command, and rootwrap-exec'
	@echo 'make bench   a request beside subprocess.run, C and oslo.rootwrap; BENCH="--json FILE --svg FILE"'
	@echo 'make docs    the documentation as HTML, with Sphinx'
	@echo 'make man     the manual pages, for installations and packages'
	@echo 'make packages sdist and wheels, built and tried in clean environments; Debian: packaging/try_debian'
	@echo 'make release-check  whether this commit can be released, line by line'
	@echo 'make lowest  the unit tests with the oldest dependencies that setup.cfg allows'
	@echo 'make sample  the sample configuration, after a change of options'
	@echo 'make fuzz    a minute of fuzzing for each target; FUZZ="--seconds 600 decide frames"'
	@echo 'make faults  faults of commands, clients and the system, and each system call failing once; as root'
	@echo 'make mutants change one thing at a time, and list what no test notices; MUTANTS="protocol --most 50"'
	@echo 'make coverage what no test executes of the privileged code; as root; COVERAGE="--more tests/unit/policy"'
	@echo 'make sbom    build/sbom.cdx.json, a bill of materials as CycloneDX, of what is installed'
	@echo 'make clean   remove what the others made'

# Where it is not built, util-linux does its work (daemon/run/shim.py). A package installs it as
# /usr/libexec/rootwrap-daemon/become. It has no C library in it, and is for two architectures.
become = rootwrap_daemon/daemon/run/become
freestanding = -ffreestanding -nostdlib -static -no-pie -fno-stack-protector -fcf-protection=none
native_exec = native/rootwrap-exec
native:
	@if command -v $(CC) >/dev/null; then $(MAKE) --no-print-directory $(become) $(native_exec); \
	else echo 'no C compiler ($(CC)): commands that need a shim use setpriv'; fi

CFLAGS ?= -O2 -fstack-protector-strong -D_FORTIFY_SOURCE=2
STATIC ?= -static
compile = umask 022; $(CC) -std=c17 -Wall -Wextra -Werror $(CFLAGS) $(LDFLAGS) $(STATIC) -o $@ $(filter %.c,$^) || \
	$(CC) -std=c17 -Wall -Wextra -Werror $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.c,$^)
$(become): native/become.c
	@umask 022; case "$$($(CC) -dumpmachine)" in \
	x86_64*) $(CC) -std=c17 -O2 -Wall -Wextra -Werror $(freestanding) -o $@ $<;; \
	aarch64*) $(CC) -std=c17 -O2 -Wall -Wextra -Werror $(filter-out -fcf%,$(freestanding)) -o $@ $<;; \
	*) echo 'not for this architecture: commands that need a shim use setpriv';; esac
$(native_exec): $(sort $(wildcard native/exec/*))
	$(compile)
	@ln -sf rootwrap-exec native/rootwrap-sudo

demo: .venv/stamp modes native
	umask 022; $(VENV_PYTHON) examples/demo/demo.py

# Each worker that takes part in a short run costs seconds of imports: two.
check: lint modes native
	umask 022; $(VENV_PYTHON) -m pytest -n 2 tests/unit tests/arch

test: lint modes native
	umask 022; $(VENV_PYTHON) -m pytest -n $(JOBS)

lint: .venv/stamp
	$(VENV_PYTHON) -m ruff check
	$(VENV_PYTHON) -m ruff format --check
	$(VENV_PYTHON) -m mypy
	$(VENV_PYTHON) -c 'from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_logo=True))'

bench: .venv/stamp modes native
	umask 022; $(VENV_PYTHON) -W ignore -m tests.bench.bench $(BENCH)

docs: .venv-docs/stamp
	.venv-docs/bin/python -m sphinx -W -q -b html doc/source doc/build/html
	@echo doc/build/html/index.html

# For `rootwrapctl install`, wheels and packages: setup.cfg takes what is there.
man: .venv-docs/stamp
	.venv-docs/bin/python -m sphinx -W -q -b man doc/source doc/build/man

packages: .venv/stamp .venv-docs/stamp
	packaging/build_python build/python
	packaging/build_client build/python
	packaging/try_python build/python "$(PYTHON)"

release-check: .venv/stamp .venv-docs/stamp
	packaging/release_check build/release

lowest: .venv-lowest/stamp
	.venv-lowest/bin/python -m pytest -n 2 tests/unit tests/arch

sample: .venv/stamp
	$(VENV_PYTHON) -c 'from oslo_config.generator import main; main()' --namespace rootwrap_daemon \
		--output-file etc/rootwrap-daemon/rootwrap-daemon.conf.sample

# libFuzzer for Python, where it has a wheel; without it inputs are changed at random. clang has it for C.
fuzz: .venv/stamp
	-$(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check 'atheris>=3.0.0'
	$(VENV_PYTHON) -m tests.proof.fuzz $(FUZZ)
	DIFFERENTIAL_CASES=700000 $(VENV_PYTHON) -m pytest -q tests/differential/test_against_oslo.py

faults: .venv/stamp modes native
	umask 022; FAULT_ROUNDS=20 INJECT_MOST=4 $(VENV_PYTHON) -m pytest -rP -q tests/functional/test_faults.py \
		tests/proof/test_injected.py $(FAULTS)

mutants: .venv/stamp
	$(VENV_PYTHON) -m tests.proof.mutate $(MUTANTS)

coverage: .venv-coverage/stamp modes native
	umask 022; .venv-coverage/bin/python -m tests.proof.covered $(COVERAGE)

sbom: .venv/stamp native
	@mkdir -p build
	$(VENV_PYTHON) -m tests.proof.sbom > build/sbom.cdx.json
	@echo build/sbom.cdx.json

# With a umask of 002 a checkout can be written by its group, and so can what Python compiles in it: code that
# the daemon refuses to run.
modes:
	@chmod go-w . && chmod -R go-w rootwrap_daemon etc examples tests $$(ls -d .venv .venv-coverage 2>/dev/null)

define check_python
@"$(PYTHON)" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo '"$(PYTHON)" is no Python 3.11 or later with venv (Debian: apt-get install python3-venv).' >&2; \
	echo 'Another one: make PYTHON=/path/to/python3' >&2; \
	exit 1; }
endef

.venv/stamp: setup.cfg pyproject.toml
	$(check_python)
	umask 022; "$(PYTHON)" -m venv --clear .venv
	$(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[test,examples]'
	@touch $@

.venv-lowest/stamp: setup.cfg pyproject.toml
	$(check_python)
	"$(PYTHON)" -m venv --clear .venv-lowest
	sed -n '/^install_requires/,/^$$/s/>=/==/p' setup.cfg > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint .venv-lowest/constraints.txt --editable '.[test,examples]'
	@touch $@

# A virtual environment of its own: every interpreter of it is measured.
.venv-coverage/stamp: setup.cfg pyproject.toml
	$(check_python)
	umask 022; "$(PYTHON)" -m venv --clear .venv-coverage
	.venv-coverage/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test,examples]'
	@touch $@

.venv-docs/stamp: setup.cfg
	$(check_python)
	"$(PYTHON)" -m venv --clear .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

clean:
	rm -rf .venv .venv-coverage .venv-docs .venv-lowest .tox build dist doc/build *.egg-info
	rm -f $(become) $(native_exec) native/rootwrap-sudo
	rm -rf .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
