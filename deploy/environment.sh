# Sourced by deploy/paritree and deploy/test: the virtual environment of this checkout, from requirements.lock alone.
# Wants $root, the checkout's absolute path.

# What is imported is compiled once and kept beside it: without that, every start of paritree takes 3 s longer.
unset PYTHONDONTWRITEBYTECODE

say() {
    printf 'paritree: %s\n' "$*" >&2
}

fail() {
    say "$*"
    exit 70
}

# A Python that the lock is for: $PYTHON, else the first of these that is new enough.
find_python() {
    for candidate in ${PYTHON:-python3.11 python3 python3.12 python3.13}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer; install one, or name it: PYTHON=/path/to/python3.11 $0"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

may_install() {
    command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

# Install Debian packages, or say what to type. The package lists of a fresh machine may be empty or old.
install_packages() {
    may_install || fail "missing: $*; install it with: sudo apt-get install $*"
    say "installing $* (apt-get)"
    quietly as_root apt-get -q update || say "apt-get update failed; going on with the lists that are there"
    quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@" ||
        fail "apt-get could not install $*"
}

# Show what a command says only when it fails.
quietly() {
    said=$("$@" 2>&1 </dev/null) || {
        printf '%s\n' "$said" >&2
        return 1
    }
}

# What the environment was made from. A moved checkout needs a new one: the scripts in it have absolute paths.
wanted_stamp() {
    printf '%s\n' "$root"
    cat "$root/requirements.lock" "$root/pyproject.toml" | sha256sum
}

environment() {
    [ "$(cat "$root/.venv/stamp" 2>/dev/null)" = "$(wanted_stamp)" ] && return
    # One at a time; the lock file itself is what is locked, and only for as long as this takes.
    (
        flock 9
        [ "$(cat "$root/.venv/stamp" 2>/dev/null)" = "$(wanted_stamp)" ] || make_environment
    ) 9<"$root/requirements.lock" </dev/null
}

make_environment() {
    export PYTHONWARNINGS=ignore # setuptools warns of what every checkout with its packages at the top is
    python=$(find_python) || exit
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages python3-venv
    fi
    if [ -e "$root/.venv/stamp" ] && [ "$(head -n 1 "$root/.venv/stamp")" != "$root" ]; then
        rm -rf "$root/.venv"
    fi
    began=$(date +%s)
    if ! "$root/.venv/bin/python" -c '' 2>/dev/null; then
        say "making .venv with $python"
        "$python" -m venv --clear "$root/.venv" >&2 || fail "$python cannot make a virtual environment"
    fi
    say "installing the packages of requirements.lock into .venv (once, a minute or so)"
    # What builds the few packages that come as source has to come from the lock too, so it goes first.
    awk '/^[^ #]/ { keep = /^setuptools==/ } keep && !/#/' "$root/requirements.lock" >"$root/.venv/build.lock"
    install_from --require-hashes --no-deps -r "$root/.venv/build.lock"
    install_from --require-hashes --no-build-isolation -r "$root/requirements.lock"
    install_from --no-deps --no-build-isolation --no-index --editable "$root"
    wanted_stamp >"$root/.venv/stamp"
    say "installed in $(($(date +%s) - began)) s"
}

# Without byte code: Python compiles what is imported, and most of it never is.
install_from() {
    "$root/.venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --no-compile "$@" >&2 ||
        fail "pip failed; its message is above"
}
