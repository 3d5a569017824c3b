#!/usr/bin/env bash
# Third call: real runs, for as long as there is time. A run that is cut off brings its checkpoint home.
LIMIT=${LIMIT:-420}
source "$(dirname "$0")/lib.sh"
kept_back=20  # for the checkpoints too
step unpack 40 unpack || exit 1
cd "$home/repo" || exit 1
step assemble 20 assemble || { finish 3; exit 1; }

# The images are decoded on the host; meanwhile the GPU times other precisions.
setsid nice -n 19 "$python" -m repro data fetch tiny_imagenet --from "$home/data/tiny-imagenet-200.tar.xz" --root "$home/data" \
  > "$home/measured/decoding.txt" 2>&1 &
decoding=$!
if [[ ${KIT_OTHERS:-1} != 0 ]]; then
  choices precisions 45 table1/shufflenetv2 "fp32, contiguous" "bf16, contiguous" "tf32, contiguous"
fi
step decoded 120 tail --pid="$decoding" -f /dev/null
tail -n 3 "$home/measured/decoding.txt" | tee -a "$log"

# As many runs at a time as complete most in the time that is left.
choose() {
  told=$("$python" benchmarks/borrowed_gpu/choose_jobs.py "$(left)" "$home/measured" | tee -a "$log")
  read -r jobs seeds with_mps <<< "$(head -n 1 <<< "$told")"
}
choose
if [[ ${with_mps:-0} == 1 ]] && ! start_mps; then
  mv "$home/measured/at-once-mps.json" "$home/measured/at-once-mps.unused.json"
  choose
fi
sweep=(--seeds "${seeds:-1}" --jobs-per-gpu "${jobs:-1}" --threads 1)
[[ $device == cpu ]] && sweep=(--seeds 1 --jobs 1)
((tiny)) && sweep+=(--set dataset.classes=2 --set "recipe.epochs=${KIT_EPOCHS:-2}" --set 'recipe.decay_epochs=[]')
while sleep 30; do pack; pack_checkpoints; done > /dev/null 2>&1 &  # a call that is cut off has brought home what ended before
packing=$!
# At the end of its time it gets SIGTERM, on which every run saves its checkpoint.
step sweep 600 "$python" -m repro sweep table1 --rows shufflenetv2 --device "$device" "${sweep[@]}" \
  --results "$home/results" --root "$home/data" --progress plain
kill "$packing"
pack_checkpoints
finish 3
[[ -n ${CUDA_MPS_PIPE_DIRECTORY:-} ]] && stop_mps
kept_back=2
step status 8 "$python" -m repro status --results "$home/results"
exit 0
