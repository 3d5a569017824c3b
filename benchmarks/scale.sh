#!/usr/bin/env bash
# Measures what docs/clusters.md says of scale, training nothing: 10,000 records planned, surveyed and shown; then sweeps of
# runs that do nothing on a real Ray. Some five minutes on 2 idle cores, 1.1 GB in $TMPDIR. Usage: benchmarks/scale.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-benchmarks/records/scale}
python=${PYTHON:-.venv/bin/python}
"$python" benchmarks/scale.py --output "$out/records.json"
"$python" tests/clusters/ray_overhead.py --output "$out/ray.json"
