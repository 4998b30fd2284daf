# What people type; every target works in a fresh checkout on Debian with Python 3.11 and make.
#
#   make run [ARGS='--listen tcp:5055:interface=127.0.0.1 --root /tmp/r']
#   make test [CLIENTS=install]     lint, types and all tests; the last line counts them
#   make clients-report             docs/clients.md anew, from what the installed clients do
#   make check                      lint, types and import arrows alone
#   make bench [ARGS=--quick]       dockreg beside other registries; writes docs/performance.md
#   make fault [ONLY=name] [CYCLES=n]   the long campaigns: crashes, power cuts, full disks, fuzz, …; run
#                                   again, they go on where they were
#   make durability-report          docs/durability.md anew, from the figures that there are
#   make docs                           the site, into build/docs
#   make dist [KEY=~/.ssh/release] [GPG_KEY=id]   wheel, source, SHA256SUMS, and its signature by an SSH or GnuPG key
#   make wheels                         dockreg and all it needs as wheels, into build/wheels: for sites without an index
#   make image [BASE=image]             the container image localhost/dockreg, by podman
#   make image-base                     a base for it from a Debian mirror: make image BASE=localhost/dockreg-base

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ROOM := dockreg_tx tests twisted bench

# Compiled once: where this is set, every start of a server or a command compiles the whole checkout anew.
export PYTHONDONTWRITEBYTECODE =

.PHONY: run test clients-report check bench fault durability-report dist wheels image image-base docs clean
.DELETE_ON_ERROR:

# The settings' own defaults are 127.0.0.1:5000 and ./var/registry, so that ARGS can replace them.
run: $(VENV)/.installed
	@exec $(BIN)/twistd -n --pidfile= dockreg $(ARGS)

test: check
ifeq ($(CLIENTS),install)
	@tests/clients/install.sh
	@tests/clients/install_go.sh
	@$(MAKE) --no-print-directory $(VENV)/.installed-docs $(VENV)/.installed-dist
endif
	@$(BIN)/python -m tests.run $(if $(CLIENTS),--clients=$(CLIENTS)) $(TESTS)

clients-report: $(VENV)/.installed-test
	@$(BIN)/python -m tests.clients.report docs/clients.md

check: $(VENV)/.installed-test
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary dockreg_tx tests bench
	@$(BIN)/python -m twisted.trial --reporter=text --temp-directory=_trial_temp_check tests.test_architecture

# Other registries are measured when they are there: docker-registry and nginx from Debian, distribution by
# tests/clients/install_go.sh github.com/distribution/distribution/v3/cmd/registry@v3.1.2, zot by BENCH_ZOT.
bench: $(VENV)/.installed-test
	@$(BIN)/python -m bench --write $(ARGS)

fault: $(VENV)/.installed-test
ifneq ($(filter cosign,$(or $(ONLY),cosign)),)
	@tests/clients/install_go.sh cosign
	@$(BIN)/python -m twisted.trial --reporter=text --temp-directory=_trial_temp_cosign tests.clients.test_cosign
endif
ifeq ($(filter cosign fuzz machines,$(ONLY)),)
	@$(BIN)/python -m tests.faults $(if $(ONLY),--only $(ONLY)) $(if $(CYCLES),--cycles $(CYCLES))
endif
ifneq ($(filter fuzz,$(or $(ONLY),fuzz)),)
	@$(BIN)/python -m tests.fuzz $(if $(ONLY),$(if $(CYCLES),--cases $(CYCLES)))
endif
ifneq ($(filter machines,$(or $(ONLY),machines)),)
	@$(BIN)/python -m tests.fuzz --machine all $(if $(ONLY),$(if $(CYCLES),--runs $(CYCLES)))
endif

durability-report: $(VENV)/.installed-test
	@$(BIN)/python -m tests.faults.report

# From the commit, not from the files that lie about; SOURCE_DATE_EPOCH makes two builds equal.
dist: $(VENV)/.installed-dist
	@$(if $(KEY),test -r $(KEY) || { echo 'there is no key $(KEY) to sign by' >&2; exit 1; },true)
	@rm -rf dist build/dist && mkdir -p dist build/dist
	@git archive HEAD | tar -x -C build/dist
	@export SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct); umask 022; \
	  $(BIN)/python -m build --outdir dist build/dist > build/dist.log 2>&1 || { cat build/dist.log >&2; exit 1; }; \
	  $(BIN)/python packaging/repack.py dist/*.tar.gz
	@cd dist && sha256sum *.tar.gz *.whl > SHA256SUMS
	@$(if $(KEY),ssh-keygen -q -Y sign -f $(KEY) -n dockreg dist/SHA256SUMS 2> build/sign.log \
	  || { cat build/sign.log >&2; exit 1; },true)
	@$(if $(GPG_KEY),gpg --batch --yes --armor --local-user '$(GPG_KEY)' --detach-sign dist/SHA256SUMS,true)
	@ls dist

# Built for this machine's Python and processor.
wheels: $(VENV)/.installed
	@rm -rf build/wheels
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --wheel-dir build/wheels . pip 'setuptools>=77'

docs: $(VENV)/.installed-docs
	@$(BIN)/python -m sphinx --quiet --fail-on-warning -b html docs build/docs

image:
	@podman build $(if $(BASE),--build-arg BASE=$(BASE)) --format docker -t localhost/dockreg .

image-base:
	@mkdir -p build
	@packaging/base.sh build/base.tar
	@podman import --quiet build/base.tar localhost/dockreg-base

clean:
	rm -rf $(VENV) .tools .mypy_cache .ruff_cache .hypothesis build dist *.egg-info _trial_temp* .coverage .coverage.* results
	find $(ROOM) -name __pycache__ -prune -exec rm -rf {} +
	rm -f twisted/plugins/dropin.cache

# Compat mode puts the checkout itself on the path; the default one hides twisted/plugins from twistd.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat

$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dockreg needs Python 3.11 or newer: make $@ PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing. As root:" >&2; echo "apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing dockreg into $(VENV)"
	@$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "installing what the tests need"
	@$(INSTALL) -e '.[test]'
	@touch $@

$(VENV)/.installed-dist: $(VENV)/.installed
	@$(INSTALL) 'build>=1.2'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@$(INSTALL) -e '.[docs]'
	@touch $@
