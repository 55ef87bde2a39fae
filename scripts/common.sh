# Sourced by the scripts beside it: makes .venv when it is missing or out of date.
# PAREDOWN_VENV names another place for it; EXTRAS the extras to install (default: dev).

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${PAREDOWN_VENV:-$root/.venv}"
extras="${EXTRAS:-dev}"

find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "paredown: no Python from 3.10 with venv was found; install one, such as python3-venv." >&2
    return 2
}

fingerprint() {
    (cd "$root" && cat pyproject.toml constraints.txt && echo "$venv $root") | cksum
}

# The stamp's first line is the fingerprint, its second the extras that were installed.
is_set_up() {
    local stamp=("" "")
    [ -x "$venv/bin/paredown" ] && [ -r "$venv/.stamp" ] || return 1
    mapfile -t stamp <"$venv/.stamp"
    [ "${stamp[0]:-}" = "$(fingerprint)" ] || return 1
    case ",${stamp[1]:-}," in *",$extras,"*) ;; *) return 1 ;; esac
}

install_into_venv() {
    local python
    python="$(find_python)" || return 2
    echo "Setting up $venv (once; it takes some minutes) …" >&2
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv" || return 2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        -e "$root[$extras]" -c "$root/constraints.txt" || return 2
    printf '%s\n%s\n' "$(fingerprint)" "$extras" >"$venv/.stamp"
}

# Two that start at once: the second waits for the first, then finds everything there. The lock
# is on the folder itself, so that no file of it is left behind.
set_up() {
    is_set_up && return
    mkdir -p "$(dirname "$venv")"
    (
        if command -v flock >/dev/null 2>&1; then flock 9; fi
        is_set_up || install_into_venv
    ) 9<"$(dirname "$venv")"
}
