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
  bench "$network-fp32" "$network" --batches 100
  bench "$network-bf16" "$network" --batches 100 --precision bf16
done
bench nasnet_a nasnet_a --batches 20 --precision bf16
bench densenet100_k12 densenet100_k12 --batches 20 --precision bf16 --arms plain,augment,graph,format,compile,deterministic
# Table 1's largest at 64x64, the one whose memory is bounded by execution.recompute.
step memory-k24 "$python" -m repro bench densenet100_k24 --device cuda --image-size 64 --batches 3 --rounds 5 \
  --arms augment,format --output "$out/densenet100_k24.json"

if ((${#failed[@]})); then
  echo "failed: ${failed[*]}"
  exit 1
fi
