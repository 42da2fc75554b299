#!/bin/sh
# Make .tools/ (a pinned uv) and .venv/ (the locked packages and this project), all inside the checkout.
# Needs only python3 >= 3.11 with venv. Does nothing, quickly, when nothing has changed. `make lock` uses `set_up.sh tools`.
set -eu
umask 022
cd "$(dirname "$0")/.."
root=$(pwd -P)

fail() {
    printf 'set-up: %s\n' "$1" >&2
    exit 1
}

find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    found=$(python3 --version 2>&1) || found="no python3"
    fail "Python 3.11 or later is needed, found: $found. Install one (Debian 12: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3.12 run"
}

# What the installed state was made from; another path or Python means: make it again.
state() {
    {
        printf '%s\n' "$root" "$("$python" -VV)" "$("$python" -c 'import sys; print(sys.base_prefix)')"
        cat requirements/uv.txt requirements/lock.txt pyproject.toml scripts/set_up.sh
    } | sha256sum | cut -d ' ' -f 1
}

make_tools() {
    if [ -x .tools/bin/uv ] && cmp -s requirements/uv.txt .tools/uv.txt; then
        return
    fi
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "this Python has no venv module. Debian: apt-get install python3-venv"
    echo "set-up: installing uv into .tools" >&2
    rm -rf .tools
    "$python" -m venv .tools || fail "could not make .tools with $python -m venv (see above)"
    if [ -z "${PIP_INDEX_URL:-}" ] && [ -n "${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-}}" ]; then
        export PIP_INDEX_URL="${UV_DEFAULT_INDEX:-$UV_INDEX_URL}"
    fi
    .tools/bin/python -m pip install --quiet --disable-pip-version-check --no-input --only-binary :all: --no-deps \
        --require-hashes --requirement requirements/uv.txt ||
        fail "could not install uv. Behind a mirror: PIP_INDEX_URL=https://mirror.example/simple make run (pip.conf works too)"
    cp requirements/uv.txt .tools/uv.txt
}

make_venv() {
    echo "set-up: installing the locked packages into .venv" >&2
    eval "$(.tools/bin/python scripts/package_index.py)"
    export UV_PYTHON_DOWNLOADS=never UV_NO_CONFIG=1 UV_LINK_MODE="${UV_LINK_MODE:-}" UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-180}"
    [ -n "$UV_LINK_MODE" ] || unset UV_LINK_MODE
    if [ -z "${UV_CACHE_DIR:-}" ] && { [ -z "${HOME:-}" ] || [ ! -w "$HOME" ]; }; then
        export UV_CACHE_DIR="$root/.tools/cache"
    fi
    unset VIRTUAL_ENV CONDA_PREFIX UV_PROJECT_ENVIRONMENT || true
    if ! .venv/bin/python -c "import sys; sys.exit(sys.prefix != '$root/.venv')" 2>/dev/null ||
        [ "$(.venv/bin/python -VV 2>/dev/null)" != "$("$python" -VV)" ]; then
        .tools/bin/uv venv --quiet --clear --python "$python" .venv || fail "could not make .venv (see above)"
    fi
    rm -f .venv/kanglian-state
    # Compiled here, once: where PYTHONDONTWRITEBYTECODE is set, each start would compile them anew (2.5 s of CPU).
    .tools/bin/uv pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes requirements/lock.txt ||
        fail "could not install the locked packages. Behind a mirror: PIP_INDEX_URL=https://mirror.example/simple make run"
    .tools/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --offline --editable . ||
        fail "could not install the project itself (see above)"
    printf '%s\n' "$1" >.venv/kanglian-state
}

python=$(find_python)
if [ "${1:-}" = tools ]; then
    make_tools
    exit 0
fi
wanted=$(state)
if [ "$(cat .venv/kanglian-state 2>/dev/null || true)" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi
for place in . .tools .venv; do
    if [ -e "$place" ] && [ ! -w "$place" ]; then
        fail "$root/$place belongs to $(stat -c %U "$place") and $(id -un) may not write there. Run this as $(stat -c %U "$place"), or clone the project into a folder of your own"
    fi
done
# Two runs of make at once in one checkout: the second waits for the first.
if [ -z "${KANGLIAN_SET_UP_LOCKED:-}" ] && command -v flock >/dev/null 2>&1; then
    KANGLIAN_SET_UP_LOCKED=1 exec flock "$root" "$0" "$@"
fi
make_tools
make_venv "$wanted"
