# The service, its workers and the command line, for processors or, as target `gpu`, for NVIDIA GPUs.
# Build from the repository's root:
#   docker build -f deploy/service.Dockerfile -t stochcon .
#   docker build -f deploy/service.Dockerfile -t stochcon:gpu --target gpu .
# To pin the base image: --build-arg BASE=python@sha256:DIGEST
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS environment
WORKDIR /src
RUN python -m venv --without-pip /opt/stochcon

# Only what is asked for: a change elsewhere in pyproject.toml leaves the layers of the dependencies as they are.
FROM ${BASE} AS requirements
WORKDIR /src
COPY pyproject.toml deploy/requirements.py ./
RUN python requirements.py cpu redis s3 > cpu.txt \
    && python requirements.py gpu redis s3 > gpu.txt \
    # With the wheels of NVIDIA's libraries that it loads.
    && echo 'onnxruntime-gpu[cuda,cudnn]' >> gpu.txt

FROM environment AS cpu-dependencies
COPY --from=requirements /src/cpu.txt ./
RUN --mount=type=cache,target=/root/.cache/pip pip --python /opt/stochcon/bin/python install -r cpu.txt

FROM environment AS gpu-dependencies
COPY --from=requirements /src/gpu.txt ./
RUN --mount=type=cache,target=/root/.cache/pip pip --python /opt/stochcon/bin/python install -r gpu.txt \
    # ONNX Runtime's are for CUDA 13; FAISS finds its own, which are for CUDA 12, by itself.
    && mkdir /opt/stochcon/cuda \
    && find /opt/stochcon/lib \( -path '*/nvidia/cu13/lib/*.so*' -o -path '*/nvidia/cudnn/lib/*.so*' \) \
        -exec ln -s -t /opt/stochcon/cuda {} +

FROM environment AS code
COPY pyproject.toml LICENSE README.md ./
COPY contracts contracts
COPY index index
COPY service service
COPY stochcon stochcon
COPY trainer trainer
COPY models models
RUN --mount=type=cache,target=/root/.cache/pip pip --python /opt/stochcon/bin/python install --no-deps . \
    && mkdir /opt/stochcon/models \
    && for model in /opt/stochcon/lib/python*/site-packages/models/*.onnx; do \
        ln -s "$model" "/opt/stochcon/models/$(basename "$model" .onnx)-$(sha256sum "$model" | cut -c 1-12).onnx"; \
    done
COPY deploy/entrypoint.sh /opt/stochcon/entrypoint.sh

FROM ${BASE} AS base
LABEL org.opencontainers.image.title="StochCon" org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin stochcon \
    && install --directory --owner stochcon --group stochcon /data /models
ENV PATH=/opt/stochcon/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    # ONNX Runtime reports its use to its maker otherwise.
    ORT_DISABLE_TELEMETRY=1 \
    STOCHCON_DATA=/data \
    STOCHCON_MODELS=/models \
    STOCHCON_HOST=0.0.0.0 \
    STOCHCON_PORT=8000
USER 10001:10001
EXPOSE 8000
# All addresses of the container are listened on, so the service starts only with a key.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["sh", "/opt/stochcon/entrypoint.sh"]
CMD ["stochcon", "serve"]

FROM base AS gpu
COPY --from=gpu-dependencies /opt/stochcon /opt/stochcon
COPY --from=code /opt/stochcon /opt/stochcon
ENV LD_LIBRARY_PATH=/opt/stochcon/cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# The last one is what is built if no target is named.
FROM base AS cpu
COPY --from=cpu-dependencies /opt/stochcon /opt/stochcon
COPY --from=code /opt/stochcon /opt/stochcon
