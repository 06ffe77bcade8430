# Sourced: the Python packages of the reference, in an environment of their own.

# Made at "$1", once for each list of packages and each Python. Run from the project's root.
install_packages() {
    local venv=$1 list=tests/interop/requirements.txt stamp
    stamp=$({ python3 -VV; cat "$list"; } | sha256sum)
    [ "$(cat "$venv/stamp" 2>/dev/null)" != "$stamp" ] || return 0
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$list"
    printf '%s\n' "$stamp" >"$venv/stamp"
}
