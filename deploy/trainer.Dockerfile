# The trainer: `train`, `evaluate`, `export` and the others. Build from the repository's root:
#   docker build -f deploy/trainer.Dockerfile -t stochcon-trainer .
# The package index's own torch brings CUDA on x86-64, several gigabytes; TORCH_INDEX names an index with builds
# for processors alone. For GPUs leave it empty: --build-arg TORCH_INDEX=
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS environment
WORKDIR /src
RUN python -m venv --without-pip /opt/stochcon

FROM ${BASE} AS requirements
WORKDIR /src
COPY pyproject.toml deploy/requirements.py ./
RUN python requirements.py trainer > trainer.txt && grep '^torch[<>=]' trainer.txt > torch.txt

FROM environment AS dependencies
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY --from=requirements /src/torch.txt ./
RUN --mount=type=cache,target=/root/.cache/pip pip --python /opt/stochcon/bin/python install \
    ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r torch.txt
COPY --from=requirements /src/trainer.txt ./
RUN --mount=type=cache,target=/root/.cache/pip pip --python /opt/stochcon/bin/python install -r trainer.txt

FROM environment AS code
COPY pyproject.toml LICENSE README.md ./
COPY contracts contracts
COPY index index
COPY service service
COPY stochcon stochcon
COPY trainer trainer
COPY models models
RUN --mount=type=cache,target=/root/.cache/pip pip --python /opt/stochcon/bin/python install --no-deps .

FROM ${BASE}
LABEL org.opencontainers.image.title="StochCon trainer" org.opencontainers.image.licenses="Apache-2.0"
# The user is that of the service, so that both can write to the folder of models.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin stochcon \
    && install --directory --owner stochcon --group stochcon /runs /models
COPY --from=dependencies /opt/stochcon /opt/stochcon
COPY --from=code /opt/stochcon /opt/stochcon
ENV PATH=/opt/stochcon/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    # ONNX Runtime reports its use to its maker otherwise.
    ORT_DISABLE_TELEMETRY=1 \
    # Matplotlib and torch keep caches in the home folder.
    HOME=/tmp
USER 10001:10001
# Run folders are `runs/RECIPE` from here if --out does not say otherwise.
WORKDIR /
STOPSIGNAL SIGINT
ENTRYPOINT ["stochcon"]
CMD ["train", "--list"]
