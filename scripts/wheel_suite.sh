#!/bin/sh
# The wheel as it is built passes the whole suite, and the suite takes 95 % of its branches: before a release.
# In a clone of its own, from which the sources of the package are removed; 4 minutes longer than `make test`.
set -eu
cd "$(dirname "$0")/.."
work=$(pwd)/build/wheel-suite
rm -rf "$work" && mkdir -p "$work/data"
git clone -q . "$work/clone"
cd "$work/clone"
sh scripts/setup.sh dev
.venv/bin/python -m build --outdir "$work/dist"
.venv/bin/pip uninstall -qy lightning-sagemaker
.venv/bin/pip install -q -c constraints.txt coverage "$work"/dist/*.whl
for line in v2 v3; do
    .venv/sdk/$line/bin/pip install -q --no-deps -c constraints.txt coverage "$work"/dist/*.whl
done
rm -r lightning_sagemaker lightning_sagemaker.pth
export LIGHTNING_SAGEMAKER_DIST="$work/dist"  # for the tests of the files themselves

# Processes in containers, under mpirun and on test hosts inherit nothing: the environments themselves start the counting.
purelib() { "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
package=$(purelib .venv/bin/python)/lightning_sagemaker
cat >"$work/coverage.ini" <<END
[run]
branch = true
parallel = true
source_pkgs = lightning_sagemaker
data_file = $work/data/coverage
patch = _exit, fork
[paths]
package =
    $package
    */site-packages/lightning_sagemaker
[report]
include = $package/*
fail_under = 95
show_missing = true
skip_covered = true
exclude_also =
    if TYPE_CHECKING:
END
for python in .venv/bin/python .venv/sdk/v2/bin/python .venv/sdk/v3/bin/python; do
    echo "import os; os.environ.setdefault('COVERAGE_PROCESS_START', '$work/coverage.ini')" \
        "; import coverage; coverage.process_startup()" >"$(purelib $python)/count_branches.pth"
done

.venv/bin/pytest -n 3 --dist loadgroup "$@"
rm "$(purelib .venv/bin/python)/count_branches.pth"
.venv/bin/coverage combine -q --rcfile="$work/coverage.ini" "$work/data" 2>"$work/combine.log"  # names killed processes
.venv/bin/coverage report --rcfile="$work/coverage.ini"
