#!/usr/bin/env bash
# First call: is it right? Then the first figures.
LIMIT=${LIMIT:-160}
source "$(dirname "$0")/lib.sh"
step facts 20 facts
step unpack 40 unpack || exit 1
cd "$home/repo" || exit 1

# All tests that need a GPU. A test that hangs shows where; five that fail are enough.
step correctness 100 env PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 "$python" -m pytest -m cuda -v --tb=short -p no:cacheprovider --durations=6 --maxfail=5 \
  -o faulthandler_timeout=40
failed=$?
grep -qE '[0-9]+ passed' "$log" || failed=1  # all were skipped
pack

# The cell that the real runs are of: its speed.
choices alone 40 table1/shufflenetv2 "fp32, contiguous"

# Where a test fails or none passes: the pieces of a step one by one, to see where it begins.
if ((failed)); then
  step diagnosis 60 "$python" benchmarks/borrowed_gpu/diagnose.py "$device" 50
fi

# The demo by the public command: four processes at once on the GPU.
demo=(--seeds 1 --jobs-per-gpu 4)
[[ $device == cpu ]] && demo=(--seeds 1 --columns ce --set recipe.epochs=1 --set 'recipe.decay_epochs=[]' --jobs 1)
step demo 60 "$python" -m repro sweep demo --device "$device" "${demo[@]}" --results "$home/results" --progress plain
pack
step kernels 40 "$python" benchmarks/borrowed_gpu/kernels.py table1/shufflenetv2/bias "$device"
finish 1
