#!/bin/sh
# Installs the clients that tests/clients and tests/faults use: Debian packages only. Needs root; may be run again.
set -eu

"$(dirname "$0")/../fronts/install.sh"

packages="docker.io docker-registry wrk podman skopeo buildah curl strace iproute2 util-linux e2fsprogs xfsprogs uidmap nbdkit libnbd-bin fuse3 prometheus"
# For the shim that kills at a system call.
packages="$packages gcc libc6-dev"
# For the image and its compose files, and for signed releases.
packages="$packages runc netavark aardvark-dns containernetworking-plugins iptables mmdebstrap podman-compose openssl gpg gpg-agent"

missing=""
for package in $packages; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "tests/clients/install.sh: needs root to install:$missing" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
# A package that starts a service on installation would leave a daemon behind: nothing may start.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
# shellcheck disable=SC2086 # one word for each package
apt-get install -qq -y --no-install-recommends $missing > /dev/null
# From Debian 13 on Docker's command line is a package of its own.
command -v docker > /dev/null || apt-get install -qq -y --no-install-recommends docker-cli > /dev/null
