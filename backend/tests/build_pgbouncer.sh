#!/usr/bin/env bash
# Builds PgBouncer 1.24, which keeps prepared statements as Neon's pooler does, from the source
# package of Debian 13, and prints the program's path. As root on a Debian, once: half a minute.
set -euo pipefail
program=${XDG_CACHE_HOME:-$HOME/.cache}/task-api/pgbouncer-1.24
if [[ ! -x $program ]]; then
    sources=$(mktemp -d)
    trap 'rm -rf "$sources"' EXIT
    {
        apt-get -q update
        apt-get -q install -y --no-install-recommends gcc libc6-dev libevent-dev libssl-dev make pkg-config
        mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' | sort -u | head -n 1)
        mkdir -p "$sources/lists/partial" "$(dirname "$program")"
        cd "$sources"
        echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:?needs the sources of a Debian} trixie main" >trixie.list
        trixie=(apt-get -q -o "Dir::Etc::sourcelist=$sources/trixie.list" -o Dir::Etc::sourceparts=- -o "Dir::State::Lists=$sources/lists")
        "${trixie[@]}" update
        "${trixie[@]}" source --download-only pgbouncer
        tar xf pgbouncer_*.orig.tar.gz
        cd pgbouncer-*/
        ./configure -q
        make -s -j "$(nproc)" pgbouncer
        mv pgbouncer "$program"
    } >&2
fi
echo "$program"
