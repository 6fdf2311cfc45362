# What the parts written in bash share: sourced, not run.

part=$(basename "$0")
passed=0 failed=0

# check NAME EXPECTED ACTUAL: one test; says what was seen where it is not what was expected (a glob).
check() {
    # shellcheck disable=SC2053
    if [[ $3 == $2 ]]; then
        passed=$((passed + 1))
        echo "test $part::$1 ... ok"
    else
        failed=$((failed + 1))
        echo "test $part::$1 ... FAILED"
        printf '    expected %q\n    seen     %q\n' "$2" "$3"
        echo "$part::$1" >>/guest/failures
    fi
}

# eventually NAME EXPECTED COMMAND...: as check, of a command that may need a while to say so.
eventually() {
    local name=$1 expected=$2 seen i
    shift 2
    for i in $(seq 150); do
        seen=$("$@" 2>&1)
        # shellcheck disable=SC2053
        [[ $seen == $expected ]] && break
        sleep 0.2
    done
    check "$name" "$expected" "$seen"
}

# The line that scripts/test adds up.
result() {
    local verdict=ok
    [ "$failed" -eq 0 ] || verdict=FAILED
    echo "test result: $verdict. $passed passed; $failed failed; 0 ignored"
}

docker() { /guest/bin/docker "$@"; }

# inspect CONTAINER TEMPLATE
inspect() { docker inspect -f "$2" "$1" 2>&1; }

# The image busybox:latest, made of Debian's busybox-static.
import_busybox() {
    local root
    root=$(mktemp -d)
    mkdir -p "$root/bin" "$root/tmp" "$root/etc"
    cp /guest/bin/busybox "$root/bin/busybox"
    chroot "$root" /bin/busybox --install -s /bin
    tar -C "$root" -c . | docker import --change 'CMD ["sh"]' - busybox:latest >/dev/null
    rm -rf "$root"
}
