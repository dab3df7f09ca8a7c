#!/bin/sh
# Makes .venv: `setup.sh demo` what the demo needs, `setup.sh dev` also what tests, lint and types need.
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
fi
touch ".venv/.$stage"
