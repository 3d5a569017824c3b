# What the calls share, on the machine with the GPU or in a rehearsal. Sourced, not run.
#
#   OUT          the folder that comes back
#   LIMIT        seconds that this call may take in all
#   KIT_HOME     a folder that outlives a call while the machine is held   (/tmp/borrowed_gpu)
#   KIT_PYTHON   an interpreter with PyTorch                               (python3)
#   KIT_DEVICE   cuda, or cpu for a rehearsal                              (cuda)
#   KIT_TINY     1: the least of everything, for a rehearsal               (0)
#   KIT_MPS      0: no MPS                                                 (1)
#   KIT_OTHERS   0: the third call times no other precisions               (1)
#   KIT_EPOCHS   of the runs of a rehearsal                                (2)
set -uo pipefail
home=${KIT_HOME:-/tmp/borrowed_gpu}
device=${KIT_DEVICE:-cuda}
tiny=${KIT_TINY:-0}
python=${KIT_PYTHON:-python3}
carried=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
: "${OUT:?OUT is not set}" "${LIMIT:?LIMIT is not set}"
mkdir -p "$home/measured" "$OUT"
OUT=$(cd "$OUT" && pwd) home=$(cd "$home" && pwd)
export PYTHONUNBUFFERED=1 COLUMNS=140 NO_COLOR=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}
export PYTHONPATH="$home/repo:$home/site" BIASREPRO_DATA="$home/data"
kept_back=12  # seconds at the end, to pack what comes back
began=$(date +%s)
steps=$OUT/steps.tsv
log=$OUT/log.txt
: > "$steps"
: > "$log"

left() { echo $((LIMIT - kept_back - $(date +%s) + began)); }

# step NAME SECONDS COMMAND...   runs a command for at most that long, and no longer than the call has. All that it
# prints is in the log; a line of steps.tsv says how it ended. Its failure does not end the call.
step() {
  local name=$1 most=$2 code since
  shift 2
  if (($(left) < 6)); then
    printf '%s\tskipped\t0\n' "$name" >> "$steps"
    echo "== $name: skipped, no time is left" | tee -a "$log"
    return 0
  fi
  ((tiny)) && most=$((4 * most))  # a CPU takes longer
  ((most > $(left))) && most=$(left)
  declare -F "$1" > /dev/null && set -- bash -c "$*"  # timeout runs programs only
  echo "== $name (at most $most s)" | tee -a "$log"
  since=$(date +%s)
  timeout --signal=TERM --kill-after=10 "$most" "$@" 2>&1 | tee -a "$log"
  code=${PIPESTATUS[0]}
  printf '%s\t%s\t%s\n' "$name" "$code" $(($(date +%s) - since)) >> "$steps"
  return "$code"
}

# The packages, the project, this call's part of the data and earlier results, into $home. Bytecode is made once, since
# some thirty processes start.
unpack() {
  mkdir -p "$home/data" "$home/parts" "$home/results"
  if [[ ! -d $home/site ]]; then
    rm -rf "$home/site.part"
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$home/site.part" \
      "$carried"/wheels/*.whl && mv "$home/site.part" "$home/site"
  fi
  if [[ ! -d $home/repo ]]; then
    rm -rf "$home/repo.part" && mkdir "$home/repo.part" &&
      tar xzf "$carried/kit/project.tgz" --no-same-owner -C "$home/repo.part" && mv "$home/repo.part" "$home/repo"
  fi
  cp -n "$carried"/part*/archive.* "$home/parts/" 2> /dev/null
  cp -rn "$carried"/part*/results/. "$home/results/" 2> /dev/null
  "$python" -m compileall -q -j 0 "$home/site" "$home/repo/repro"
  cd "$home/repo" && "$python" -c "import repro.cli, torch; print('biasrepro', repro.__version__, 'torch', torch.__version__)"
}

# The archive of the data set from its three parts, once they are all there.
assemble() {
  local archive=$home/data/tiny-imagenet-200.tar.xz
  [[ -e $archive ]] && return 0
  (cd "$home/parts" && sha256sum --check --quiet "$carried/kit/parts.sha256") || return 1
  cat "$home"/parts/archive.* > "$archive.part" && mv "$archive.part" "$archive"
}

facts() {
  nvidia-smi || echo "no nvidia-smi"
  command -v git nvidia-cuda-mps-control || true
  nproc; free -g | sed -n 2p; df -h /tmp | tail -n 1; uname -r
  "$python" -c "import torch; print(torch.__version__, torch.version.cuda, torch.backends.cudnn.version(), torch.cuda.is_available())"
}

# What is worth having, in few files; after each step that made something. One at a time: the last is the newest.
pack() {
  (
    flock 9
    cd "$home" && tar czf .records --exclude='checkpoint*' --exclude='owner-*' results measured
    mv .records "$OUT/records.tar.gz"
  ) 9> "$home/.packing"
}

# The checkpoints of unfinished runs, in at most three files of 15 MB.
pack_checkpoints() {
  (
    flock 9
    cd "$home" || exit
    names=$(find results -name checkpoint.pt | while read -r file; do
      [[ -e $(dirname "$file")/run.json ]] || echo "$file"; done)
    rm -rf pieces && mkdir pieces
    [[ -n $names ]] && tar cf - $names | split -b 15M -d -a 1 - pieces/checkpoints.
    shopt -s nullglob
    pieces=(pieces/*)
    if ((${#pieces[@]} > 3)); then
      echo "the checkpoints of unfinished runs are too large to come back: ${#pieces[@]} files"
    else
      rm -f "$OUT"/checkpoints.*
      ((${#pieces[@]})) && mv "${pieces[@]}" "$OUT/"
    fi
    exit 0
  ) 9> "$home/.packing"
}

start_mps() {
  [[ ${KIT_MPS:-1} != 0 && $device == cuda ]] && command -v nvidia-cuda-mps-control > /dev/null || return 1
  export CUDA_MPS_PIPE_DIRECTORY=$home/mps CUDA_MPS_LOG_DIRECTORY=$home/mps-log
  mkdir -p "$CUDA_MPS_PIPE_DIRECTORY" "$CUDA_MPS_LOG_DIRECTORY"
  # It must not hold the call's output open.
  timeout 5 nvidia-cuda-mps-control -d < /dev/null > "$CUDA_MPS_LOG_DIRECTORY/start.txt" 2>&1 && return 0
  stop_mps
  return 1
}

stop_mps() {
  echo quit | timeout 5 nvidia-cuda-mps-control
  unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
}

# choices FILE SECONDS CELL WAY...   benchmarks/choices.py for some ways to train a cell
choices() {
  local file=$1 seconds=$2 cell=$3 rounds=(--rounds 2) ways=() way
  shift 3
  [[ $device == cuda ]] && rounds=(--rounds 3 --batches 200)
  ((tiny)) && rounds=(--rounds 1 --batches 1)
  for way; do ways+=(--way "$way"); done
  step "$file" "$seconds" "$python" benchmarks/choices.py "$cell" --device "$device" "${rounds[@]}" "${ways[@]}" \
    -o "$home/measured/$file.json"
  pack
}

finish() {
  pack
  echo "== call $1 took $(($(date +%s) - began)) s"
  cat "$steps"
}
export -f unpack assemble facts
export home carried python
