# biasrepro in a container; docs/install.md says how to build and to run it.
#
# PyPI's PyTorch for Linux on x86_64 is the CUDA build, which runs on the CPU as well. For a smaller image without CUDA,
# give the address of PyTorch's wheels for the CPU: --build-arg TORCH_INDEX=...
FROM python:3.11-slim

ARG TORCH_INDEX=""

WORKDIR /opt/biasrepro
COPY requirements.lock ./
# The locked versions, without what only tests need. Wheels of another index have hashes of their own: those two are
# taken by version, and everything else by its hash.
RUN if [ -n "$TORCH_INDEX" ]; then \
      grep -Eo '^torch(vision)?==[0-9.]+' requirements.lock > torch.txt \
      && PIP_INDEX_URL="$TORCH_INDEX" pip install --no-cache-dir --no-deps -r torch.txt \
      && sed -i -E '/^torch(vision)?==|; sys_platform == "linux"/,/[^\\]$/d' requirements.lock; \
    fi \
    && sed '/^# to check and to test/,/^# to install/d' requirements.lock > run.txt \
    && pip install --no-cache-dir --no-deps --require-hashes -r run.txt

COPY . ./
# Any user may run it (docker run --user), so that results belong to whoever started it.
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && mkdir -p /runs/results /runs/data \
    && chmod 1777 /runs /runs/results /runs/data

ENV HOME=/tmp
USER 1000:1000
WORKDIR /runs
VOLUME ["/runs/results", "/runs/data"]
ENTRYPOINT ["biasrepro"]
