#!/bin/sh
# Installs the reverse proxies that tests/fronts puts before dockreg: Debian packages only. Needs root; may be run
# again. tests/clients/install.sh calls it, and keeps services from starting meanwhile.
set -eu

missing=""
for package in nginx-light caddy haproxy; do
    program=${package%-light}
    command -v "$program" > /dev/null || [ -x "/usr/sbin/$program" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "tests/fronts/install.sh: needs root to install:$missing" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
# shellcheck disable=SC2086 # one word for each package
apt-get install -qq -y --no-install-recommends $missing > /dev/null
