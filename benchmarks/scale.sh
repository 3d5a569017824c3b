#!/usr/bin/env bash
# Measures the figures of scale in docs/clusters-reference.md without training: planning and showing 10,000 runs, then sweeps of empty
# runs on a real Ray. Takes five minutes on 2 idle cores and 1.1 GB in $TMPDIR. Usage: benchmarks/scale.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-benchmarks/records/scale}
python=${PYTHON:-.venv/bin/python}
"$python" benchmarks/scale.py --output "$out/records.json"
"$python" tests/clusters/ray_overhead.py --output "$out/ray.json"
