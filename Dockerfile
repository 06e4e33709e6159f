# The kit with everything it needs, for any user id, a read-only root and no network:
#
#   docker build -t carryover .
#   mkdir -p out
#   docker run --rm --gpus all --ipc=host --user "$(id -u):$(id -g)" -v "$PWD/out:/out" carryover
#
# Without a GPU leave out --gpus and --ipc. docker/entrypoint says what happens inside.

ARG BASE_IMAGE=nvidia/cuda:13.0.3-base-ubuntu24.04

# --- the system: Python, git (which DVC needs), and tini, which hands signals on ------------------
FROM ${BASE_IMAGE} AS os
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates git python3 tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old \
        /var/log/apt /var/log/dpkg.log /var/log/alternatives.log \
 && git config --system --add safe.directory '*'

# --- uv, held by hashes; neither it nor pip enters the image --------------------------------------
FROM os AS uv
RUN --mount=type=bind,source=requirements/uv.lock,target=/locks/uv.lock \
    apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3-venv \
 && python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --no-cache-dir --require-hashes -r /locks/uv.lock

# --- the packages of requirements.lock, in one layer ----------------------------------------------
FROM os
RUN --mount=type=bind,from=uv,source=/opt/uv,target=/opt/uv \
    --mount=type=bind,source=requirements.lock,target=/locks/requirements.lock \
    --mount=type=bind,source=requirements/build.lock,target=/locks/build.lock \
    --mount=type=cache,target=/var/cache/uv,id=carryover-uv,sharing=locked \
    export UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never \
        UV_SYSTEM_CERTS=1 UV_COMPILE_BYTECODE=1 PYC_INVALIDATION_MODE=UNCHECKED_HASH \
        VIRTUAL_ENV=/opt/venv \
 && /opt/uv/bin/uv venv --python /usr/bin/python3 /opt/venv \
 && /opt/uv/bin/uv pip sync --require-hashes --build-constraints /locks/build.lock \
        /locks/requirements.lock \
 && /opt/uv/bin/uv pip freeze > /opt/packages.txt \
 && dpkg-query --show --showformat '${Package}=${Version}\n' > /opt/packages-system.txt \
 && rm -f /tmp/uv-*.lock

# --- the checkout: what .dockerignore lets through, readable for every user ------------------------
# The entrypoint sets PYTHONPATH to the working copy's src, so the command runs the code found there.
RUN --mount=type=bind,target=/context \
    mkdir /app \
 && cp -R /context/. /app \
 && chmod -R u=rwX,go=rX /app \
 && chmod 755 /app/docker/entrypoint \
 && mkdir -m 1777 /out /work \
 && printf '%s\n' '#!/opt/venv/bin/python' 'from carryover.cli import main' '' \
        'if __name__ == "__main__":' '    main()' > /usr/local/bin/carryover \
 && chmod 755 /usr/local/bin/carryover

# Nothing but /tmp and /out needs to be writable; a new volume at /work is open to every user, for
# WORK=/work. USER and LOGNAME stand in for a passwd entry. Threads that wait sleep: where other
# work shares the cores, ones that spin made an update 12 times as slow.
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/app/src PYTHONUNBUFFERED=1 LANG=C.UTF-8 SHELL=/bin/bash OMP_WAIT_POLICY=PASSIVE \
    APP=/app WORK=/tmp/home/work OUT=/out \
    HOME=/tmp/home USER=carryover LOGNAME=carryover \
    XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/cache/matplotlib \
    TORCH_HOME=/tmp/cache/torch TORCHINDUCTOR_CACHE_DIR=/tmp/cache/inductor \
    TRITON_CACHE_DIR=/tmp/cache/triton HF_HOME=/tmp/cache/huggingface \
    DVC_SITE_CACHE_DIR=/tmp/cache/dvc DVC_NO_ANALYTICS=1 AWS_EC2_METADATA_DISABLED=true \
    WANDB_MODE=offline WANDB_DIR=/tmp WANDB_CACHE_DIR=/tmp/cache/wandb \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

WORKDIR /app
USER 1000:1000
ENTRYPOINT ["tini", "-s", "-g", "--", "/app/docker/entrypoint"]
CMD ["carryover", "reproduce", "--fresh", "--once"]

ARG BASE_IMAGE
ARG REVISION=
ARG VERSION=
LABEL org.opencontainers.image.title="carryover" \
      org.opencontainers.image.description="What does a pretrained vision representation carry over to the next task? Published studies, reproduced, audited and extended." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.version="${VERSION}"
