#!/usr/bin/env bash
# Second call: how fast? Ours beside the standard loop, and how many runs share the GPU.
LIMIT=${LIMIT:-130}
source "$(dirname "$0")/lib.sh"
step unpack 40 unpack || exit 1
cd "$home/repo" || exit 1

bench() { # NETWORK   Its record is written after each round.
  local options=(--rounds 3 --batches 100 --workers 8 --arms plain,graph,format)
  [[ $device == cpu ]] && options=(--rounds 3 --workers 8 --arms plain,format)
  ((tiny)) && options+=(--rounds 1 --batches 1 --batch-size 8 --workers 1)
  step "bench-$1" 100 "$python" -m repro bench "$1" --device "$device" "${options[@]}" -o "$home/measured/bench-$1.json"
  pack
}

bench shufflenetv2_x0_5
choices at-once 45 table1/shufflenetv2 "4 processes" "4 streams" "2 processes"
if start_mps; then
  choices at-once-mps 25 table1/shufflenetv2 "4 processes"
  stop_mps
fi
bench squeezenet
step jobs 10 "$python" benchmarks/borrowed_gpu/choose_jobs.py 420 "$home/measured"
finish 2
