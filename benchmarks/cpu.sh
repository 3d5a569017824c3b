#!/usr/bin/env bash
# Measures docs/performance.md's table for a CPU: our training against the plain loop, Table 2's networks, interleaved.
# Some ten minutes on 2 cores, which should have nothing else to do. Usage: benchmarks/cpu.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-benchmarks/records/cpu}
biasrepro=${BIASREPRO:-.venv/bin/biasrepro}
mkdir -p "$out"

# An epoch here is a few batches: as many as give each round some seconds.
measure() { "$biasrepro" bench "$1" --device cpu --threads 2 --rounds 5 --batches "$2" --output "$out/$1.json" "${@:3}"; }

measure shufflenetv2_x0_5 16
measure mobilenetv2_x0_75 8
measure squeezenet 3
# 24 GB do not hold these two at batch 128 in several arms at once.
measure nasnet_a 3 --arms plain,format --batch-size 32
measure densenet100_k12 3 --arms plain,format --batch-size 32
