# Every target does its own set-up, in .venv, from a bare clone on a machine with Python 3.11 or newer; what Debian has
# and the machine lacks is installed by apt-get when root, and named otherwise. CONTRIBUTING.md says which target when.
PYTHON ?= python3
SHELL := $(PYTHON)
.SHELLFLAGS := scripts/recipe_shell.py -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.PHONY: demo check test test-package test-benchmarks test-all quick-imports tables lint types docs site lightning oldest python wheel-suite coverage bench bench-full bench-on-sagemaker gpu on-sagemaker clean

# On two cores, since most tests wait for processes that they start.
WORKERS ?= 4
MAKEFLAGS += --jobs=3  # environments are set up beside each other
VERSION ?= 2.2.5
DISTRIBUTION ?= lightning
# A worker that dies ends the run: xdist waits for ever for another in its place (seen with pytest-xdist 3.8).
PYTEST = -m pytest -n $(WORKERS) --dist loadgroup --max-worker-restart=0
INSTALL := install -q -c constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Most of what is installed is never imported; who imports the rest compiles it, unless nothing compiled may be kept.
export PIP_COMPILE := $(if $(PYTHONDONTWRITEBYTECODE),1,0)

demo: .venv/.demo
	export PYTHONPATH=$(CURDIR)/.venv/aside
	.venv/bin/lightning-sagemaker simulate --hosts 2 --processes-per-host 2 --distribution torch_distributed \
	    examples/digits/train.py -- --epochs 5

# Processes that share two cores need one thread each: others only spin.
check test-package test-benchmarks lightning coverage: export OMP_NUM_THREADS := 1

# While you work: no training, two minutes.
check: lint types tables .venv/.dev
	$(QUICK_IMPORTS) on .venv
	.venv/bin/python $(PYTEST) -m "not training and not nightly"

# What a release must pass, side by side.
test: tables test-package test-benchmarks

test-package: quick-imports
	.venv/bin/python $(PYTEST) -m "not nightly"
	.venv/bin/python scripts/launch_table.py --check

# Few lines, told in its end: those of the other are on the terminal.
test-benchmarks: WORKERS := 2
test-benchmarks: quick-imports .venv/.bench
	mkdir -p build
	PYTHONPATH=. .venv/bench/bin/python $(PYTEST) -q -m "not nightly" tests/benchmarks >build/test-benchmarks.log 2>&1 ||
	    { code=$$?; cat build/test-benchmarks.log; exit $$code; }
	tail -n 1 build/test-benchmarks.log

quick-imports: .venv/.dev .venv/.sdk
	$(QUICK_IMPORTS) on .venv $(SDKS)

# Also the long drills, and the cases that differ from others in numbers only.
test-all: .venv/.dev .venv/.sdk .venv/.bench
	$(QUICK_IMPORTS) off .venv $(SDKS)
	export LIGHTNING_SAGEMAKER_FULL=1
	.venv/bin/python $(PYTEST)
	.venv/bin/python scripts/launch_table.py --check
	PYTHONPATH=. .venv/bench/bin/python $(PYTEST) tests/benchmarks

# What is made by scripts, of the code's own tables where there are some.
tables: .venv/.dev .venv/.bench
	.venv/bin/python scripts/changes_table.py --check
	.venv/bin/python scripts/variables_table.py --check
	.venv/bin/python scripts/settings_table.py --check
	.venv/bin/python scripts/messages_table.py --check
	.venv/bin/python scripts/pictures.py --check
	.venv/bench/bin/python -m benchmarks report docs/benchmarks/*.jsonl --output docs/benchmarks --check

lint: .venv/.lint
	.venv/bin/ruff check
	.venv/bin/ruff format --check

types: .venv/.lint
	.venv/bin/mypy
	.venv/bin/pyright --pythonpath .venv/bin/python

docs: .venv/.docs
	.venv/docs/bin/python -m sphinx --fail-on-warning --keep-going --nitpicky --fresh-env --quiet docs build/docs

# The site in a real browser, at three widths, light and dark; screenshots in build/site.
site: docs
	$(DEBIAN)
	command -v chromium >/dev/null || debian chromium
	.venv/docs/bin/python -m pytest -q -c /dev/null --noconftest -p no:cacheprovider --rootdir . tests/site

bench: .venv/.dev .venv/.bench
	$(QUICK_IMPORTS) off .venv
	.venv/bench/bin/python -m benchmarks run --python .venv/bin/python

bench-full: .venv/.dev .venv/.bench
	$(QUICK_IMPORTS) off .venv
	.venv/bench/bin/python -m benchmarks run --python .venv/bin/python --full

# The same launches as a job on real instances, which costs money: docs/benchmarks.md. The wheel is this tree's.
SUITES ?= training,collectives
LAUNCHES ?= 6
SCALE ?= full
bench-on-sagemaker: .venv/.dev
	work=build/bench-on-sagemaker
	rm -rf "$$work" && mkdir -p "$$work/source"
	git ls-files benchmarks | xargs cp --parents --target-directory "$$work/source"
	.venv/bin/python -m build --no-isolation --wheel --outdir "$$work" >/dev/null
	.venv/bin/lightning-sagemaker submit "$$work/source/benchmarks/job.py" --source-dir "$$work/source" \
	    --instance-type $(INSTANCE_TYPE) --instance-count $(INSTANCE_COUNT) $(if $(LAUNCHER),--launcher $(LAUNCHER)) --torch 2.5.1 \
	    --env BENCHMARK_COMMIT=$$(git rev-parse HEAD) --requirement 'lightning>=2.2,!=2.6.2,!=2.6.3' \
	    --requirement "$$(echo "$$work"/*.whl)" $(SUBMIT) -- \
	    --suites $(SUITES) --launches $(LAUNCHES) --scale $(SCALE) --device gpu

# What one GPU can show, in 8 minutes at most; tests skip with their reason what a CPU cannot. PYTHON is used as it is where
# its torch sees a GPU and it has what tests/gpu imports, as in a container image; otherwise .venv.
gpu:
	python="$(PYTHON)"
	if ! "$$python" -c 'import filelock, lightning, psutil, pytest, pytest_timeout, torch; assert torch.cuda.is_available()' 2>/dev/null; then
	    $(MAKE) .venv/.dev
	    python=.venv/bin/python
	fi
	PYTHONPATH="$(CURDIR)" timeout 480 "$$python" -m pytest -v tests/gpu

# What only real instances can answer, as one job, which costs money: docs/aws-assumptions.md. The wheel is this tree's.
INSTANCE_TYPE ?= ml.g5.xlarge
INSTANCE_COUNT ?= 2
LAUNCHER ?=
STRATEGY ?=
SUBMIT ?= --dry-run
PYTEST_ARGUMENTS ?=
on-sagemaker: .venv/.dev .venv/.sdk
	rm -rf build/on-sagemaker
	.venv/bin/python -m build --no-isolation --wheel --outdir build/on-sagemaker >/dev/null
	PYTHONPATH=$(CURDIR) .venv/sdk/v2/bin/python -m lightning_sagemaker submit tests/on_sagemaker/run.py \
	    --instance-type $(INSTANCE_TYPE) --instance-count $(INSTANCE_COUNT) \
	    $(if $(LAUNCHER),--launcher $(LAUNCHER)) $(if $(STRATEGY),--strategy $(STRATEGY)) \
	    --requirement pytest --requirement build/on-sagemaker/*.whl $(SUBMIT) -- $(PYTEST_ARGUMENTS)

# What touches Lightning, with one version of one distribution: make lightning VERSION=2.4.0 DISTRIBUTION=pytorch-lightning
LIGHTNING := .venv/$(DISTRIBUTION)-$(VERSION)
lightning: $(LIGHTNING)/.ready
	$(QUICK_IMPORTS) on $(LIGHTNING)
	$(LIGHTNING)/bin/python $(PYTEST) -m "not nightly" tests/test_autoload.py tests/patches tests/test_environment.py \
	    tests/launch/test_launch_modes.py tests/checkpoint tests/locking/test_node_lock.py tests/metrics/test_jobs.py tests/metrics/test_log_reduction.py \
	    tests/smddp/test_strategies.py tests/smddp/test_training.py tests/distributed/test_shutdown.py tests/distributed/test_sigterm.py

# What CI adds to the newest: the oldest `lightning`, and `pytorch_lightning`, which it requires.
oldest:
	$(MAKE) lightning VERSION=2.2.5 DISTRIBUTION=lightning

# The wheel with another Python: jobs are read and simulated without torch; then it trains. make python PYTHON=python3.13
python: | .venv/.torch
	work=build/$(notdir $(PYTHON))
	rm -rf "$$work" && mkdir -p "$$work"
	.venv/bin/pip wheel -q --no-deps --wheel-dir "$$work" .
	$(PYTHON) -m venv "$$work/venv"
	"$$work/venv/bin/pip" install -q filelock hypothesis psutil pytest pytest-timeout
	"$$work/venv/bin/pip" install -q --no-deps "$$work"/*.whl
	"$$work/venv/bin/python" -m pytest -q tests/job tests/locking/test_once_per_node.py
	"$$work/venv/bin/lightning-sagemaker" simulate --hosts 2 tests/programs/who_am_i.py
	"$$work/venv/bin/pip" $(INSTALL) torch
	"$$work/venv/bin/pip" $(INSTALL) lightning
	"$$work/venv/bin/lightning-sagemaker" simulate --hosts 2 --distribution torch_distributed examples/fabric/train.py
	"$$work/venv/bin/lightning-sagemaker" simulate --hosts 2 examples/download/train.py

# Before a release: the wheel as built passes the suite, and the suite takes 95 % of its branches. In a clone of its own,
# from which the sources of the package are removed.
wheel-suite:
	work=$(CURDIR)/build/wheel-suite
	rm -rf "$$work" && mkdir -p "$$work/data"
	git clone -q . "$$work/clone"
	cd "$$work/clone"
	$(MAKE) .venv/.dev .venv/.sdk .venv/.bench
	.venv/bin/python -m build --outdir "$$work/dist"
	.venv/bin/pip uninstall -qy lightning-sagemaker
	.venv/bin/pip $(INSTALL) coverage "$$work"/dist/*.whl
	for line in v2 v3; do $(PIP_SDK)$$line/bin/python $(INSTALL) --no-deps coverage "$$work"/dist/*.whl; done
	rm -r lightning_sagemaker lightning_sagemaker.pth
	export LIGHTNING_SAGEMAKER_DIST="$$work/dist"  # for the tests of the files themselves
	package="$$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/lightning_sagemaker"
	$(COUNT_BRANCHES) "$$package" "$$work/data"
	.venv/bin/python $(PYTEST)
	count_no_branches
	.venv/bin/coverage combine -q "$$work/data" 2>"$$work/combine.log"  # names killed processes
	.venv/bin/coverage report

# How many of the package's branches `make test` takes.
coverage: .venv/.dev .venv/.sdk
	$(QUICK_IMPORTS) on .venv $(SDKS)
	work=$(CURDIR)/build/coverage
	rm -rf "$$work" && mkdir -p "$$work"
	.venv/bin/pip $(INSTALL) coverage
	for line in v2 v3; do $(PIP_SDK)$$line/bin/python $(INSTALL) --no-deps coverage; done
	$(COUNT_BRANCHES) $(CURDIR)/lightning_sagemaker "$$work"
	.venv/bin/python $(PYTEST) -m "not nightly"
	count_no_branches
	.venv/bin/coverage combine -q "$$work" 2>build/combine.log  # names killed processes
	.venv/bin/coverage report --fail-under=93

clean:
	rm -rf .venv build dist

# Set-up.

# tests/quick_imports.py says what it is; in a target that measures, or that proves it all, it is off.
define QUICK_IMPORTS
quick_imports() {
    for environment in "$${@:2}"; do
        purelib="$$("$$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
        rm -f "$$purelib"/quick_imports.*
        if [ "$$1" = on ]; then
            cp tests/quick_imports.py "$$purelib"
            echo 'import quick_imports' >"$$purelib/quick_imports.pth"
        fi
    done
}
quick_imports
endef
SDKS := .venv/sdk/v2 .venv/sdk/v3
PIP_SDK := .venv/bin/pip --python .venv/sdk/

# Arguments: the package's folder, and one for the data. Processes in containers, under mpirun and on test hosts inherit
# nothing: the environments themselves start the counting.
define COUNT_BRANCHES
pth() { "$$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib") + "/count_branches.pth")'; }
count_no_branches() { for environment in .venv $(SDKS); do rm -f "$$(pth $$environment)"; done; }
count_branches() {
    trap count_no_branches EXIT
    export COVERAGE_PACKAGE="$$1" COVERAGE_FILES="$$2/coverage" COVERAGE_PROCESS_START="$$PWD/pyproject.toml"
    for environment in .venv $(SDKS); do
        for name in COVERAGE_PACKAGE COVERAGE_FILES COVERAGE_PROCESS_START; do
            echo "import os; os.environ.setdefault('$$name', '$${!name}')"
        done >"$$(pth $$environment)"
        echo 'import coverage; coverage.process_startup()' >>"$$(pth $$environment)"
    done
}
count_branches
endef

define DEBIAN
debian() {
    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$$@"
    else
        echo "HINT: as root, run: apt-get install $$*" >&2
        return 1
    fi
}
endef

.venv/.pip:
	$(DEBIAN)
	rm -rf .venv
	$(PYTHON) -m venv .venv || { rm -rf .venv; debian python3-venv && $(PYTHON) -m venv .venv; }
	.venv/bin/pip install -q 'pip>=25.1'  # knows dependency groups
	touch $@

# First and by itself: a range asked for by another package would bring another build.
.venv/.torch: constraints.txt | .venv/.pip
	.venv/bin/pip $(INSTALL) torch
	touch $@

# The example's digits come with scikit-learn, and so with scipy, in a folder of their own: where scipy is, Lightning
# imports it, which is a quarter of all that it imports, in every process of every test.
.venv/.demo: pyproject.toml constraints.txt | .venv/.torch
	.venv/bin/pip $(INSTALL) --group demo -e .
	.venv/bin/pip $(INSTALL) --target .venv/aside --upgrade --no-deps --group aside
	touch $@

# Test hosts run the real toolkit: Open MPI 4, whose flags it uses, and sshd; RUNLEVEL keeps sshd from being started. The
# toolkit has no wheel, and compiles one small extension. Of sagemaker-train only the container drivers are used, and
# those need nothing; its requirements weigh 1.2 GB.
.venv/.dev: .venv/.demo
	$(DEBIAN)
	command -v gcc >/dev/null || debian gcc libc6-dev python3-dev || true
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	    PATH="$$PATH:/usr/sbin"
	    if ! { command -v sshd && command -v nft && command -v tc && [ -x /usr/bin/mpirun ]; } >/dev/null; then
	        RUNLEVEL=1 debian openmpi-bin openssh-server openssh-client iproute2 nftables || true
	    fi
	fi
	.venv/bin/pip $(INSTALL) --group dev
	.venv/bin/pip uninstall -qy scipy  # which the toolkit requires: see .venv/aside
	.venv/bin/pip $(INSTALL) --no-deps sagemaker-train
	.venv/bin/pip $(INSTALL) --target .venv/rich --upgrade --no-deps --group rich
	touch $@

# The type checkers see all that is installed.
.venv/.lint: .venv/.dev
	.venv/bin/pip $(INSTALL) --group lint
	touch $@

# What judges the benchmarks has an environment of its own: where scipy is, Lightning imports it.
.venv/.bench: pyproject.toml constraints.txt | .venv/.pip
	[ -x .venv/bench/bin/python ] || $(PYTHON) -m venv --without-pip .venv/bench
	.venv/bin/pip --python .venv/bench/bin/python $(INSTALL) numpy scipy psutil pytest pytest-timeout pytest-randomly pytest-xdist
	touch $@

# Both lines of SageMaker's SDK, which no environment holds together, and a server that plays AWS: of both, the parts that
# are used, since the rest of v3 weighs gigabytes, and moto's other services take as long to install as all else here.
.venv/.sdk: constraints.txt | .venv/.pip
	for line in v2 v3; do [ -x .venv/sdk/$$line/bin/python ] || $(PYTHON) -m venv --without-pip .venv/sdk/$$line; done
	$(PIP_SDK)v2/bin/python install -q 'sagemaker==2.257.7' 'moto[ec2,iam,s3]==5.2.5' flask flask-cors
	$(PIP_SDK)v3/bin/python install -q 'sagemaker-core==2.27.0' 'graphene>=3,<4' nest_asyncio jinja2
	$(PIP_SDK)v3/bin/python install -q --no-deps 'sagemaker-train==1.27.0' 'sagemaker==3.27.0'
	for line in v2 v3; do  # `submit` builds this package's wheel with the pip beside it
	    $(PIP_SDK)$$line/bin/python $(INSTALL) 'jsonargparse[signatures]' pathspec pip
	done
	touch $@

# Neither torch nor Lightning: docs/conf.py does without.
.venv/.docs: pyproject.toml constraints.txt | .venv/.pip
	[ -x .venv/docs/bin/python ] || $(PYTHON) -m venv --without-pip .venv/docs
	.venv/bin/pip --python .venv/docs/bin/python $(INSTALL) --group docs
	touch $@

# `lightning` requires `pytorch-lightning` of any version: both are of the one under test. 2.2 and 2.3 import pkg_resources.
# With the oldest Lightning, the oldest filelock.
$(LIGHTNING)/.ready: pyproject.toml constraints.txt | .venv/.pip
	[ -x $(LIGHTNING)/bin/python ] || $(PYTHON) -m venv --without-pip $(LIGHTNING)
	pip="$(CURDIR)/.venv/bin/pip --python $(LIGHTNING)/bin/python install -q -c $(LIGHTNING)/constraints.txt"
	{ grep -v lightning constraints.txt
	  echo 'lightning==$(VERSION)'
	  echo 'pytorch-lightning==$(VERSION)'
	  echo '$(if $(filter 2.2.% 2.3.%,$(VERSION)),setuptools<81)'
	  $(if $(filter 2.2.5,$(VERSION)),sed -n 's/^    "\(filelock\)>=\([0-9.]*\)".*/\1==\2/p' pyproject.toml)
	} >$(LIGHTNING)/constraints.txt
	$$pip torch
	$$pip setuptools $(DISTRIBUTION) --group matrix
	$$pip --no-deps --no-build-isolation -e .
	touch $@
