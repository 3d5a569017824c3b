#!/usr/bin/env bash
# A session on a GPU, in the order of what matters: first that the CUDA paths are right, then how fast they are.
# Every step is tried whatever became of the one before; what failed is named at the end. Usage: benchmarks/gpu.sh [FOLDER]
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

# Graph against eager, no wait inside an epoch, resuming, precision: all tests that need a CUDA device, and nothing else.
step correctness "$python" -m pytest -m cuda -q -p no:cacheprovider

# The plain loop is the slow half of each: its epochs are kept short, and long enough for ours to be timed.
for network in squeezenet shufflenetv2_x0_5 mobilenetv2_x0_75; do
  bench "$network-fp32" "$network" --batches 100 --workers 8
  bench "$network-bf16" "$network" --batches 100 --workers 8 --precision bf16
done
bench nasnet_a nasnet_a --batches 20 --workers 8 --precision bf16
bench densenet100_k12 densenet100_k12 --batches 20 --workers 8 --precision bf16 --arms plain,augment,graph,format,compile

# Epochs of CIFAR-100's length, ours alone: what a whole cell of 200 of them takes.
bench squeezenet-cell squeezenet --batches 390 --precision bf16 --arms graph,format
# What declared determinism costs.
bench squeezenet-deterministic squeezenet --batches 100 --arms graph,format,deterministic
bench densenet100_k12-deterministic densenet100_k12 --batches 20 --arms graph,format,deterministic
# Table 1's largest at 64x64, in the memory that recomputation leaves it, and without.
bench densenet100_k24-recompute densenet100_k24 --image-size 64 --batches 3 --arms augment,format --recompute
bench densenet100_k24 densenet100_k24 --image-size 64 --batches 3 --arms augment,format
# How many runs share the GPU best; measures, and trains nothing.
step jobs-per-gpu "$python" -m repro sweep table2 --device cuda --jobs-per-gpu auto --dry-run --no-measure
step startup "$python" benchmarks/startup.py -o "$out/startup.json"

if ((${#failed[@]})); then
  echo "failed: ${failed[*]}"
  exit 1
fi
