# syntax=docker/dockerfile:1
# One image for the three services; docker-compose.yml says which one a container runs.
#   docker build -t backlane .

FROM python:3.11-slim-bookworm AS build
RUN python -m venv /opt/backlane
ENV PATH=/opt/backlane/bin:$PATH
WORKDIR /src
# torch first, as its CPU build, for the reason given in scripts/setup.sh. The layer only changes
# with the pin; the cache mount keeps downloads between builds and out of the image.
COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip install "$(sed -n 's/^\(torch==[0-9.]*+cpu\).*/\1/p' constraints.txt)" \
       --find-links https://download.pytorch.org/whl/cpu/torch/
COPY pyproject.toml README.md ./
COPY services services
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip install --constraint constraints.txt ".[all]"

FROM python:3.11-slim-bookworm
# A fixed number, so that volumes keep their owner from one image to the next.
RUN groupadd --gid 10001 backlane \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/backlane backlane \
    && install --directory --owner=10001 --group=10001 --mode=0750 /var/lib/backlane
COPY --from=build /opt/backlane /opt/backlane
# The root file system may be read-only: compiled kernels are kept beside the data.
ENV PATH=/opt/backlane/bin:$PATH \
    BACKLANE_HOME=/var/lib/backlane \
    XDG_CACHE_HOME=/var/lib/backlane/cache \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/backlane
# Without compose: docker run -e BACKLANE_HEALTH_ADDRESS=127.0.0.1:PORT … backlane python -m SERVICE
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 \
    CMD ["sh", "-c", "exec python -m backlane.rpc.healthcheck \"${BACKLANE_HEALTH_ADDRESS:?}\""]
STOPSIGNAL SIGTERM
CMD ["backlane", "--help"]
