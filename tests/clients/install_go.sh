#!/bin/sh
# Builds the clients that are Go programs, and the official conformance runner, into .tools/bin of the checkout.
# Every version is pinned. May be run again: what is there in its version is left alone. Takes minutes at first.
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
# The least Go that all of these accept (oras names it); installed where the machine's own is older.
go_version=1.26.8
case $(uname -m) in
    x86_64) go_platform=linux-amd64 go_sum=30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7 ;;
    aarch64) go_platform=linux-arm64 go_sum=02b36b6787b3ac767668f630e2998df45a3b1f9ffee08d1bf3ef6487cd658d99 ;;
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

# The first module proxy that is configured; where no Go is installed yet, its own default.
module_proxy() {
    configured=${GOPROXY:-$(sed -n 's/^GOPROXY=//p' "${XDG_CONFIG_HOME:-$HOME/.config}/go/env" 2>/dev/null || true)}
    for proxy in $(echo "$configured" | tr ',|' '  '); do
        case $proxy in direct | off) ;; *) echo "${proxy%/}"; return ;; esac
    done
    echo https://proxy.golang.org
}

# Go's toolchain is itself a module of the proxy: an archive whose names begin with module@version.
install_go() {
    module=golang.org/toolchain@v0.0.1-go$go_version.$go_platform
    home=$tools/$module
    go=$home/bin/go
    [ ! -x "$go" ] || return 0
    archive=$tools/go.zip
    python3 - "$(module_proxy)/golang.org/toolchain/@v/${module#*@}.zip" "$archive" "$go_sum" "$tools" <<'PYTHON'
import hashlib, sys, urllib.request, zipfile
url, archive, expected, directory = sys.argv[1:]
with urllib.request.urlopen(url, timeout=60) as answer, open(archive, "wb") as file:
    while piece := answer.read(1 << 20):
        file.write(piece)
with open(archive, "rb") as file:
    found = hashlib.file_digest(file, "sha256").hexdigest()
if found != expected:
    sys.exit(f"Go's archive has sha256 {found}, not {expected}")
zipfile.ZipFile(archive).extractall(directory)
PYTHON
    rm "$archive"
    find "$home/pkg/tool" -type f -exec chmod 755 {} +
    chmod 755 "$home"/bin/* # last: it marks the toolchain as complete
}

wanted=""
for program in $programs; do
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
