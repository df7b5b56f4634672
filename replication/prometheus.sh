#!/bin/sh
# Starts Prometheus with the same prometheus.yml that serves one machine: here the master is another host, which MASTER
# names. The file lies beside this script, where it cannot be written to; what is made of it goes to the folder of the data,
# which the image starts in. Arguments are Prometheus' own.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
chosen=running.yml
sed -e "s/127\.0\.0\.1:/$MASTER:/" -e "s#- rules/#- $here/rules/#" "$here/prometheus.yml" > "$chosen"
exec prometheus --config.file="$chosen" --storage.tsdb.path=data --storage.tsdb.retention.time=7d "$@"
