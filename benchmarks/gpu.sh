#!/usr/bin/env bash
# Checks and measures on a GPU: first whether the CUDA paths are correct, then how fast they are.
# A failed step does not stop the others; failures are listed at the end. Usage: benchmarks/gpu.sh [FOLDER]
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-benchmarks/records/gpu}
python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"
failed=()
step() {
  local name=$1
  shift
  echo "== $name"
  timeout "${STEP_SECONDS:-540}" "$@" 2>&1 | tee "$out/$name.log" || failed+=("$name")
}
bench() { step "bench-$1" "$python" -m repro bench "$2" --device cuda --rounds 5 --output "$out/$1.json" "${@:3}"; }

# All tests that need a CUDA device: graph against eager, no waits inside an epoch, resuming, precision.
step correctness "$python" -m pytest -m cuda -q -p no:cacheprovider

# The plain loop takes most of the time: epochs are short, but long enough to time ours.
for network in squeezenet shufflenetv2_x0_5 mobilenetv2_x0_75; do
  bench "$network-fp32" "$network" --batches 100 --workers 8
  bench "$network-bf16" "$network" --batches 100 --workers 8 --precision bf16
done
bench nasnet_a nasnet_a --batches 20 --workers 8 --precision bf16
bench densenet100_k12 densenet100_k12 --batches 20 --workers 8 --precision bf16 --arms plain,augment,graph,format,compile

# Epochs of CIFAR-100's length, ours alone: the time of a cell of 200 epochs follows.
bench squeezenet-cell squeezenet --batches 390 --precision bf16 --arms graph,format
# The cost of determinism.
bench squeezenet-deterministic squeezenet --batches 100 --arms graph,format,deterministic
bench densenet100_k12-deterministic densenet100_k12 --batches 20 --arms graph,format,deterministic
# The largest network of Table 1 at 64x64, with and without recomputation.
bench densenet100_k24-recompute densenet100_k24 --image-size 64 --batches 3 --arms augment,format --recompute
bench densenet100_k24 densenet100_k24 --image-size 64 --batches 3 --arms augment,format
# How many runs should share the GPU; trains nothing.
step jobs-per-gpu "$python" -m repro sweep table2 --device cuda --jobs-per-gpu auto --dry-run --no-measure
step startup "$python" benchmarks/startup.py -o "$out/startup.json"

if ((${#failed[@]})); then
  echo "failed: ${failed[*]}"
  exit 1
fi
