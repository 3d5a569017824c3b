#!/usr/bin/env bash
# Second call: how many runs share the GPU? And how fast is ours beside the standard loop?
LIMIT=${LIMIT:-130}
source "$(dirname "$0")/lib.sh"
step unpack 40 unpack || exit 1
cd "$home/repo" || exit 1

bench() { # NETWORK   Its record is written after each round.
  local options=(--rounds 3 --batches 100 --workers 8 --arms plain,graph)
  [[ $device == cpu ]] && options=(--rounds 3 --workers 8 --arms plain,format)
  ((tiny)) && options+=(--rounds 1 --batches 1 --batch-size 8 --workers 1)
  step "bench-$1" 100 "$python" -m repro bench "$1" --device "$device" "${options[@]}" --overwrite -o "$home/measured/bench-$1.json"
  pack
}

choices at-once 60 table1/shufflenetv2 "4 processes" "2 processes" "4 streams"
if start_mps; then
  choices at-once-mps 25 table1/shufflenetv2 "4 processes"
  stop_mps
fi
bench shufflenetv2_x0_5
bench squeezenet
finish 2
