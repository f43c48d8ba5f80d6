#!/usr/bin/env bash
# Makes what stands in for python:3.13-slim where there is no registry of images: a minimal Debian 13,
# which that one is made of as well, with its Python 3.13 and pip. Prints the path of its files, a tar.
# As root on a Debian, once: a minute.
set -euo pipefail
base=${XDG_CACHE_HOME:-$HOME/.cache}/task-api/python-3.13-slim.tar
if [[ ! -e $base ]]; then
    {
        mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' | sort -u | head -n 1)
        mkdir -p "$(dirname "$base")"
        mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3-pip \
            --customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' \
            --customize-hook='ln -s /usr/bin/python3.13 "$1/usr/local/bin/python"' \
            --customize-hook='rm "$1"/usr/lib/python3.13/EXTERNALLY-MANAGED' \
            trixie "$base.new.tar" "${mirror:?needs the sources of a Debian}"
        mv "$base.new.tar" "$base"
    } >&2
fi
echo "$base"
