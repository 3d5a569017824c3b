#!/usr/bin/env bash
# Unpacks what came back into a new folder, and verifies it:   home.sh OUT FOLDER
set -euo pipefail
out=$(cd "${1:?missing: home.sh OUT FOLDER}" && pwd)
folder=${2:?missing: home.sh OUT FOLDER}
python=${PYTHON:-$(dirname "$0")/../../.venv/bin/python}
mkdir -p "$folder"
tar xzf "$out/records.tar.gz" -C "$folder"
cp "$out"/log.txt "$out"/steps.tsv "$folder"/
if compgen -G "$out/checkpoints.*" > /dev/null; then cat "$out"/checkpoints.* | tar xf - -C "$folder"; fi
ls -l "$folder/measured"
"$python" -m repro verify "$folder/results"
