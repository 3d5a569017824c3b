#!/usr/bin/env bash
# Measures the CPU tables of docs/performance.md for the networks of Table 2. Takes 25 minutes on 2 otherwise idle cores
# and up to 20 GB of memory, for the DenseNet. Usage: benchmarks/cpu.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-benchmarks/records/cpu}
biasrepro=${BIASREPRO:-.venv/bin/biasrepro}
mkdir -p "$out"

measure() { "$biasrepro" bench "$2" --device cpu --threads 2 --rounds 5 --output "$out/$1.json" "${@:3}"; }

# Ours against the plain loop. An epoch has as many batches as take a few seconds.
measure shufflenetv2_x0_5 shufflenetv2_x0_5 --batches 16
measure mobilenetv2_x0_75 mobilenetv2_x0_75 --batches 8
measure squeezenet squeezenet --batches 3
measure nasnet_a nasnet_a --batches 1 --arms plain,format
# At batch size 128 the two arms together need more than 24 GB.
measure densenet100_k12 densenet100_k12 --batches 1 --batch-size 64 --arms plain,format

# Memory layout, compilation and deterministic algorithms, then bf16.
for network in shufflenetv2_x0_5:8 mobilenetv2_x0_75:4 squeezenet:2; do
  name=${network%:*}
  measure "$name-choices" "$name" --batches "${network#*:}" --arms memory,format,compile,deterministic
  measure "$name-bf16" "$name" --batches "${network#*:}" --arms memory,format --precision bf16
done
