#!/bin/sh
# Starts Prometheus with the prometheus.yml for a single machine, changed so that the master is the host in MASTER. That file
# is mounted read-only next to this script; the changed copy is written to the current folder, which in the image is the
# data folder. Arguments are passed to Prometheus.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
chosen=running.yml
sed -e "s/127\.0\.0\.1:/$MASTER:/" -e "s#- rules/#- $here/rules/#" "$here/prometheus.yml" > "$chosen"
exec prometheus --config.file="$chosen" --storage.tsdb.path=data --storage.tsdb.retention.time=7d "$@"
