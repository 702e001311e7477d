# The service with the model that ships. Build from the repository's root:
#   docker build -f deploy/service.Dockerfile -t stochcon .
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
RUN python -m venv /opt/stochcon
# The dependencies change seldom and are large: they get a layer of their own, which the code does not touch.
COPY pyproject.toml LICENSE README.md ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']; \
wanted = project['dependencies'] + extras['service'] + [d for d in extras['cpu'] if not d.startswith('stochcon[')]; \
open('requirements.txt', 'w').write('\n'.join(wanted))" \
    && /opt/stochcon/bin/pip install --no-cache-dir -r requirements.txt
COPY contracts contracts
COPY index index
COPY service service
COPY stochcon stochcon
COPY trainer trainer
COPY models models
RUN /opt/stochcon/bin/pip install --no-cache-dir --no-deps .

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="StochCon" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/stochcon /opt/stochcon
RUN useradd --system --uid 10001 --no-create-home stochcon \
    && install --directory --owner stochcon /data
ENV PATH=/opt/stochcon/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STOCHCON_DATA=/data \
    STOCHCON_HOST=0.0.0.0 \
    STOCHCON_PORT=8000
USER stochcon
VOLUME /data
EXPOSE 8000
# All addresses of the container are listened on, so the service starts only with STOCHCON_API_KEY set.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
CMD ["stochcon", "serve"]
