#!/usr/bin/env bash
# Makes .borrowed_gpu, which travels to the machine, and says which call needs what of it:   prepare.sh ARCHIVE
#
#   ARCHIVE   tiny-imagenet-200.tar.xz or .zip: a third of it travels with each call, since a transfer may be limited
#   PYTHON    an interpreter with pip                       (python3)
#   VERSION   the Python of the machine with the GPU        (3.12)
#   WHEELS    a folder with the wheels, if not from PyPI
#   RESULTS   a results folder with checkpoints to resume, as home.sh unpacked it
#   MOST_MB   what may travel with a call, this checkout's tracked files included   (67: 64 MiB)
set -euo pipefail
archive=$(realpath -e "${1:?missing: prepare.sh ARCHIVE}")
[[ -z ${WHEELS:-} ]] || WHEELS=$(realpath -e "$WHEELS")
[[ -z ${RESULTS:-} ]] || RESULTS=$(realpath -e "$RESULTS")
cd "$(dirname "$0")/../.."
# What training and its tests need and a machine with PyTorch may lack, in the versions of the lock.
packages=(pydantic pydantic-core annotated-types typing-inspection typing-extensions typer annotated-doc shellingham)
packages+=(rich markdown-it-py mdurl pygments safetensors pyyaml pytest iniconfig pluggy packaging)
kit=$PWD/.borrowed_gpu
rm -rf "$kit" && mkdir -p "$kit"/{kit,wheels,part1,part2,part3}

cp benchmarks/borrowed_gpu/*.sh "$kit/kit/"
if [[ -n ${WHEELS:-} ]]; then
  cp "$WHEELS"/*.whl "$kit/wheels/"
else
  platforms=()
  for name in manylinux_2_28 manylinux_2_17 manylinux2014; do platforms+=(--platform "${name}_x86_64"); done
  pinned=$(for name in "${packages[@]}"; do grep -oE "^$name==[^ ]+" requirements.lock; done)
  "${PYTHON:-python3}" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version "${VERSION:-3.12}" --implementation cp "${platforms[@]}" -d "$kit/wheels" $pinned
fi

# The committed project with its last commit, so that records name it.
[[ -z $(git status --porcelain --untracked-files=no) ]] || echo "WARNING: changes that are not committed stay here"
clone=$(mktemp -d)
git clone -q --depth 1 "file://$PWD" "$clone"
tar czf "$kit/kit/project.tgz" -C "$clone" .
rm -rf "$clone"

split -n 3 -d -a 1 "$archive" "$kit/archive."
(cd "$kit" && sha256sum archive.0 archive.1 archive.2 > kit/parts.sha256)
for part in 0 1 2; do mv "$kit/archive.$part" "$kit/part$((part + 1))/"; done

[[ -z ${RESULTS:-} ]] || cp -r "$RESULTS" "$kit/part3/results"

echo "commit $(git rev-parse HEAD)"
tree=$(git ls-files -z --cached --others --exclude-standard | du -cb --files0-from=- | tail -n 1 | cut -f 1)
for call in 1 2 3; do
  carried=$(du -cb "$kit/kit" "$kit/wheels" "$kit/part$call" | tail -n 1 | cut -f 1)
  megabytes=$(((tree + carried + 999999) / 1000000))
  echo "call $call carries .borrowed_gpu/kit, wheels and part$call: $megabytes MB with the tracked files"
  ((megabytes <= ${MOST_MB:-67})) || { echo "that is more than ${MOST_MB:-67} MB"; exit 1; }
done
