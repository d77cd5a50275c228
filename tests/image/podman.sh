# What the checks of tests/image share.
: "${CONTAINERS_STORAGE_CONF:?is set by tests/image/run: the containers there are removed}"
ip link set lo up
export DISABLE_HC_SYSTEMD=true # podman runs health checks by timers of systemd

fail() {
    echo "FAILED: $*" >&2
    local name
    podman ps -a >&2
    for name in $(podman ps -a --format '{{.Names}}'); do
        echo "--- the last lines of $name:" >&2
        podman logs --tail 20 "$name" >&2 || true
    done
    exit 1
}

remove_all() {
    podman rm -f -a -t 0 >/dev/null 2>&1 || true
    podman volume rm -f -a >/dev/null 2>&1 || true
}

wait_for() { # "what" command...
    local what=$1 end=$((SECONDS + 60))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "$what: not within 60 s"
        sleep 0.2
    done
    echo "ok: $what"
}

is() { # "what" got wanted
    [ "$2" = "$3" ] || fail "$1: $2, not $3"
    echo "ok: $1"
}
