#!/bin/sh
# Builds the clients that are Go programs, and the official conformance runner, into .tools/bin of the checkout;
# with "cosign" that one instead, which takes as long as all others.
# Every version is pinned. May be run again: what is there in its version is left alone. Takes minutes at first.
# Other programs may be named as arguments, each with its version.
set -eu
cd "$(dirname "$0")/../.."

tools=$PWD/.tools
stamps=$tools/stamps
# Path of the program's package, and version of its module.
programs="
github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111
github.com/google/go-containerregistry/cmd/crane@v0.22.1
github.com/regclient/regclient/cmd/regctl@v0.11.7
oras.land/oras/cmd/oras@v1.3.6
helm.sh/helm/v3/cmd/helm@v3.22.0
"
[ "${1:-}" != cosign ] || programs=github.com/sigstore/cosign/v2/cmd/cosign@v2.6.5
# The least Go that all of these accept (oras names it); installed where the machine's own is older.
go_version=1.26.8
case $(uname -m) in
    x86_64) go_platform=linux-amd64 ;;
    aarch64) go_platform=linux-arm64 ;;
    *) echo "tests/clients/install_go.sh: no Go is pinned for $(uname -m)" >&2; exit 1 ;;
esac

is_built() {
    name=${1%@*}
    name=${name##*/}
    [ -x "$tools/bin/$name" ] && [ "$(cat "$stamps/$name" 2>/dev/null)" = "$1" ]
}

new_enough() {
    found=$("$1" env GOVERSION 2>/dev/null) || return 1
    [ "$(printf '%s\n%s\n' "$go_version" "${found#go}" | sort -V | head -n 1)" = "$go_version" ]
}

# Go's toolchain is itself a module, which any Go can download, Debian's too.
install_go() {
    module=golang.org/toolchain@v0.0.1-go$go_version.$go_platform
    home=$tools/$module
    go=$home/bin/go
    [ ! -x "$go" ] || return 0
    older=$(command -v go || true)
    if [ -z "$older" ]; then
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends golang-go > /dev/null
        older=/usr/bin/go
    fi
    GO111MODULE=on GOTOOLCHAIN=local "$older" mod download "$module"
    rm -rf "$home"
    mkdir -p "$(dirname "$home")"
    cp -R "$("$older" env GOMODCACHE)/$module" "$home"
    chmod -R u+w "$home"
    # As go does when it switches to a toolchain: modules must not contain modules, nor programs.
    for file in "$home/src/_go.mod" "$home/src/cmd/_go.mod"; do
        [ ! -e "$file" ] || mv "$file" "$(dirname "$file")/go.mod"
    done
    find "$home/pkg/tool" -type f -exec chmod 755 {} +
    chmod 755 "$home"/bin/* # last: it marks the toolchain as complete
}

wanted=""
for program in ${*:-$programs}; do
    is_built "$program" || wanted="$wanted $program"
done
[ -n "$wanted" ] || exit 0

if [ ! -e /etc/ssl/certs/ca-certificates.crt ]; then
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends ca-certificates > /dev/null
fi
mkdir -p "$tools/bin" "$stamps"
go=$(command -v go || true)
if [ -z "$go" ] || ! new_enough "$go"; then
    install_go
fi
for program in $wanted; do
    name=${program%@*}
    name=${name##*/}
    echo "building ${program##*/}" >&2
    GOTOOLCHAIN=local GOFLAGS=-buildvcs=false CGO_ENABLED=0 GOBIN="$tools/bin" \
        "$go" install -trimpath -ldflags='-s -w' "$program"
    echo "$program" > "$stamps/$name"
done
