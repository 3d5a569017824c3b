#!/usr/bin/env bash
# All calls on this machine's CPU, with the least of everything; after prepare.sh:   rehearse.sh FOLDER [CALL...]
#
#   FOLDER       a new folder that plays the machine with the GPU
#   KIT_PYTHON   an interpreter with PyTorch, without the packages that travel   (python3)
set -euo pipefail
mkdir -p "${1:?missing: rehearse.sh FOLDER [CALL...]}"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
shift
(($#)) || set -- 1 2 3
for call; do
  there=$folder/call$call
  mkdir -p "$there/carried" "$folder/out$call"
  cp -r .borrowed_gpu/kit .borrowed_gpu/wheels ".borrowed_gpu/part$call" "$there/carried/"
  echo "######## call $call"
  (cd "$there" && env -u PYTHONPATH -u VIRTUAL_ENV OUT="$folder/out$call" KIT_HOME="$folder/home" KIT_DEVICE=cpu \
    KIT_TINY=1 OMP_NUM_THREADS=1 LIMIT="${LIMIT:-600}" bash "carried/kit/call$call.sh") > "$folder/call$call.txt" 2>&1 ||
    echo "call $call ended with exit code $?"
  cat "$folder/out$call/steps.tsv"
done
