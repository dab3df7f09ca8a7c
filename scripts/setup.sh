#!/bin/sh
# Makes .venv: `setup.sh demo` what the demo needs, `setup.sh dev` also what tests, lint and types need,
# `setup.sh docs` only what the documentation needs.
# From a bare Debian machine with Python: what is missing is installed by apt-get when root, and named otherwise.
set -eu
cd "$(dirname "$0")/.."
stage=$1
python=${PYTHON:-python3}
export PIP_DISABLE_PIP_VERSION_CHECK=1

debian() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"
    else
        echo "HINT: as root, run: apt-get install $*" >&2
        return 1
    fi
}

if [ ! -x .venv/bin/pip ]; then
    rm -rf .venv
    "$python" -m venv .venv || { rm -rf .venv; debian python3-venv && "$python" -m venv .venv; }
    .venv/bin/pip install -q 'pip>=25.1'  # knows dependency groups
fi
install() { .venv/bin/pip install -q -c constraints.txt "$@"; }

if [ "$stage" = docs ]; then  # neither torch nor Lightning: docs/conf.py does without
    [ -x .venv/docs/bin/python ] || "$python" -m venv --without-pip .venv/docs
    .venv/bin/pip --python .venv/docs/bin/python install -q -c constraints.txt --group docs
    touch .venv/.docs
    exit
fi
install torch  # first and by itself: a range asked for by another package would bring another build
install --group demo -e .
if [ "$stage" = dev ]; then
    # The toolkit has no wheel: it compiles one small extension.
    command -v gcc >/dev/null || debian gcc libc6-dev python3-dev || true
    # Test hosts run the real toolkit: Open MPI 4, whose flags it uses, and sshd; RUNLEVEL keeps sshd from being started.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        if ! (PATH="$PATH:/usr/sbin"; command -v sshd && command -v nft && command -v tc && [ -x /usr/bin/mpirun ]) >/dev/null; then
            RUNLEVEL=1 debian openmpi-bin openssh-server openssh-client iproute2 nftables || true
        fi
    fi
    install --group dev
    # Only the container drivers in it are used, and those need nothing; its requirements weigh 1.2 GB.
    install --no-deps sagemaker-train

    # The benchmark program has an environment of its own: where matplotlib is, Lightning imports it, at 0.5 s a process.
    [ -x .venv/bench/bin/pip ] || "$python" -m venv .venv/bench
    .venv/bench/bin/pip install -q -c constraints.txt numpy scipy matplotlib tqdm pytest pytest-timeout pytest-randomly
    # Both lines of SageMaker's SDK, which no environment holds together, and a server that plays AWS.
    for line in v2 v3; do
        [ -x .venv/sdk/$line/bin/pip ] || "$python" -m venv .venv/sdk/$line
    done
    .venv/sdk/v2/bin/pip install -q 'sagemaker==2.257.7' 'moto[server]==5.2.5'
    # What ModelTrainer needs; the rest of these distributions weighs gigabytes.
    .venv/sdk/v3/bin/pip install -q 'sagemaker-core==2.27.0' 'graphene>=3,<4' nest_asyncio jinja2
    .venv/sdk/v3/bin/pip install -q --no-deps 'sagemaker-train==1.27.0' 'sagemaker==3.27.0'
fi
touch ".venv/.$stage"
