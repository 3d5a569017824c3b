#!/usr/bin/env bash
# Checks and measures on a GPU: first whether the CUDA paths are correct, then how fast they are.
#
#   benchmarks/gpu.sh [--long] [--again] [FOLDER]     PYTHON: an interpreter with what training needs, and pytest
#
# Each step has a limit in seconds; their sum is printed first. A failed step does not stop the others; failures are
# listed at the end. Once step NAME is done there is FOLDER/NAME.log, and the step is skipped; --again repeats all.
set -uo pipefail
cd "$(dirname "$0")/.."
long='' again='' out=benchmarks/records/gpu
for argument; do
  case $argument in
    --long) long=1 ;;
    --again) again=1 ;;
    -*) echo "unknown option $argument: benchmarks/gpu.sh [--long] [--again] [FOLDER]" >&2; exit 2 ;;
    *) out=$argument ;;
  esac
done
python=${PYTHON:-.venv/bin/python}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}  # biasrepro need not be installed
planning=1 total=0 failed=()

step() { # NAME SECONDS COMMAND...
  local name=$1 limit=$2 log=$out/$1.log
  shift 2
  if [[ -e $log ]]; then
    ((planning)) && echo "$name: done before, see $log"
  elif ((planning)); then
    ((total += limit))
  else
    echo "== $name (at most $limit s)"
    timeout --kill-after=10 "$limit" "$@" 2>&1 | tee "$log.part"
    if ((PIPESTATUS[0])); then failed+=("$name"); else mv "$log.part" "$log"; fi
  fi
}

bench() { # NAME SECONDS NETWORK OPTIONS...
  step "$1" "$2" "$python" -m repro bench "$3" --device cuda --precision bf16 --output "$out/$1.json" "${@:4}"
}

short_form() {
  # All tests that need a CUDA device: graph against eager, no waits inside an epoch, resuming, precision.
  step correctness 150 env PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 "$python" -m pytest -m cuda -q -p no:cacheprovider
  # The standard loop takes most of the time: epochs are short, but long enough to time ours.
  for network in shufflenetv2_x0_5 squeezenet mobilenetv2_x0_75; do
    bench "$network" 90 "$network" --rounds 3 --batches 100 --arms plain,graph,format
  done
  bench resnet18 90 resnet18 --image-size 64 --rounds 3 --batches 100 --arms plain,graph,format
  # All arms are in memory at once: two of a DenseNet, not more.
  bench densenet100_k12 90 densenet100_k12 --rounds 3 --batches 20 --arms plain,format
}

long_form() {
  bench nasnet_a 240 nasnet_a --batches 20 --arms plain,graph,format
  bench efficientnet_b4 240 efficientnet_b4 --image-size 64 --batches 20 --arms plain,format
  bench inception_v3 240 inception_v3 --image-size 64 --batches 20 --arms plain,format
  bench densenet100_k24 300 densenet100_k24 --image-size 64 --batches 10 --arms plain,format
  bench densenet100_k24-recompute 300 densenet100_k24 --image-size 64 --batches 10 --arms augment,format --recompute
  bench densenet100_k12-compile 300 densenet100_k12 --batches 20 --arms format,compile
  # What each step adds.
  bench shufflenetv2_x0_5-arms 180 shufflenetv2_x0_5 --batches 100
  # Epochs of CIFAR-100's length, ours alone: the time of a cell of 200 epochs follows.
  bench squeezenet-cell 120 squeezenet --batches 390 --arms graph,format
  # The cost of determinism.
  bench squeezenet-deterministic 120 squeezenet --batches 100 --arms format,deterministic
  bench densenet100_k12-deterministic 240 densenet100_k12 --batches 20 --arms format,deterministic
  # Precision, memory format and compilation of each network, one process at a time.
  step choices 1800 "$python" benchmarks/choices.py --output "$out/choices.json"
  # How many runs should share the GPU; trains nothing.
  step jobs-per-gpu 300 "$python" -m repro sweep table2 --device cuda --jobs-per-gpu auto --dry-run --no-measure
  step startup 300 "$python" benchmarks/startup.py -o "$out/startup.json"
}

if ! "$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
  echo "no CUDA device is available to $python: \`biasrepro doctor\` shows why" >&2
  exit 1
fi
mkdir -p "$out"
[[ $again ]] && rm -f "$out"/*.log
for planning in 1 0; do
  short_form
  [[ $long ]] && long_form
  ((planning)) && echo "This takes at most $total s ($(((total + 59) / 60)) min); figures go to $out/"
done
if ((${#failed[@]})); then
  echo "failed: ${failed[*]}; the same command tries them again"
  exit 1
fi
