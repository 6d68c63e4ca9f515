# Three images (docs/deployment.md):
#   --target slim   in front of a vLLM or SGLang server: no torch, no model
#   --target cpu    judges on a CPU, includes the default model
#   --target cuda   judges on an NVIDIA GPU, includes the default model
# Your own pip configuration and certificate can be passed to the build; they are not stored in any image:
#   --secret id=pip,src=pip.conf --secret id=ca,src=ca.pem     with `cert = /run/secrets/ca` in pip.conf
# A tag can move: to build from a fixed base, pass it with its digest, --build-arg BASE=python:3.11-slim@sha256:...
# (docs/deployment.md).
ARG BASE=docker.io/library/python:3.11-slim

# Everything is installed into /opt/grm, an environment without its own pip.
FROM ${BASE} AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/grm
COPY pyproject.toml README.md LICENSE ./
COPY grm_service grm_service
COPY models models
COPY principles principles
COPY deploy/requirements-*.txt constraints.txt /pins/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca \
    --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir /wheels . \
    && pip --python /opt/grm/bin/python install --require-hashes --requirement /pins/requirements-slim.txt \
    && pip --python /opt/grm/bin/python install --no-deps /wheels/*.whl

FROM build AS build-cpu
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca \
    --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/grm/bin/python install --require-hashes --requirement /pins/requirements-cpu.txt

FROM build AS build-cuda
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca \
    --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/grm/bin/python install --constraint /pins/constraints.txt "$(echo /wheels/*.whl)[local]"

# Models are downloaded with pip, from the system's Python. Only /opt/model of these two stages is used.
FROM build-cpu AS model-cpu
ENV GRM_CACHE_DIR=/opt/model
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca \
    --mount=type=cache,target=/root/.cache/pip \
    PYTHONPATH=$(echo /opt/grm/lib/python*/site-packages) python -m grm_service models fetch \
    && find /opt/model -name original.gguf -delete \
    && chmod -R a+rX /opt/model

FROM build-cuda AS model-cuda
ENV GRM_CACHE_DIR=/opt/model
COPY examples/pair.json ./
# The first judgement creates the files that transformers reads; it also tests that the image can judge.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca \
    --mount=type=cache,target=/root/.cache/pip \
    PYTHONPATH=$(echo /opt/grm/lib/python*/site-packages) \
    python -m grm_service judge pair.json --engine transformers \
    && find /opt/model -name '*.gguf' -delete \
    && chmod -R a+rX /opt/model

# The runtime base: without pip and its configuration, manuals and translations, and without setuid files.
FROM ${BASE} AS root
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/grm --shell /usr/sbin/nologin grm \
    && install --directory --owner=grm --group=grm --mode=0750 /var/lib/grm \
    && install --directory /etc/grm/models /etc/grm/principles \
    && rm -rf /usr/share/doc /usr/share/info /usr/share/locale /usr/share/man /usr/share/python-wheels \
        /usr/lib/python3/dist-packages/* /usr/local/lib/python3*/site-packages/* /etc/pip.conf \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +

FROM scratch AS runtime
# A single layer on purpose: on top of the base image, removed files would still take space.
# hadolint ignore=DL3067
COPY --from=root / /
# The published port decides who can reach the service, so listen on all addresses, with or without keys. Without
# keys, requests must still address localhost, unless GRM_ALLOWED_HOSTS names other hosts.
ENV PATH=/opt/grm/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GRM_HOST=0.0.0.0 \
    GRM_ALLOW_ANYONE=true \
    GRM_MODELS_DIR=/etc/grm/models \
    GRM_PRINCIPLES_DIR=/etc/grm/principles \
    GRM_AUDIT_URL=sqlite:////var/lib/grm/audit.db \
    GRM_AUDIT_KEY_FILE=/var/lib/grm/audit.key
USER 10001:10001
# The only writable path besides /tmp (batch bodies, models during loading): the audit trail, its key, downloaded
# models.
VOLUME /var/lib/grm
EXPOSE 8000
# Checks liveness, not readiness: a model that is still loading is no reason to restart.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "\
import http.client, os, sys\n\
server = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('GRM_PORT') or 8000), timeout=4)\n\
server.request('GET', '/livez')\n\
sys.exit(server.getresponse().status != 200)"]
ENTRYPOINT ["grm"]
CMD ["serve"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="grm-service" \
      org.opencontainers.image.description="A generative reward model behind HTTP, sampled, voted and open to inspection" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM runtime AS slim
ENV GRM_ENGINE=openai \
    GRM_PROFILE=generic-judge \
    GRM_OPENAI_BASE_URL=http://vllm:8000/v1
COPY --from=build /opt/grm /opt/grm

FROM runtime AS cuda
ENV GRM_ENGINE=transformers \
    GRM_CACHE_DIR=/opt/model \
    HF_HOME=/var/lib/grm/huggingface \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=model-cuda /opt/model /opt/model
COPY --from=build-cuda /opt/grm /opt/grm

FROM runtime AS cpu
ENV GRM_ENGINE=openvino \
    GRM_CACHE_DIR=/opt/model
COPY --from=model-cpu /opt/model /opt/model
COPY --from=build-cpu /opt/grm /opt/grm
