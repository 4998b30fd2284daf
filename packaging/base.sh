#!/bin/sh
# base.sh FILE.tar: writes a base for the image, Debian 12 with Python, by mmdebstrap; for machines and sites that
# fetch from a mirror of Debian instead of a registry. "podman import FILE.tar localhost/dockreg-base" takes it in.
# MIRROR=URL names another mirror. Needs mmdebstrap, and root or user namespaces.
set -eu

file=$1
partly=$file.partly.tar
trap 'rm -f "$partly"' EXIT
# Documentation, manuals and translations are half as large as what is left.
mmdebstrap --quiet --variant=essential --include=python3,ca-certificates \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    bookworm "$partly" "${MIRROR:-http://deb.debian.org/debian}"
mv "$partly" "$file"
