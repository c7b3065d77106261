# rsft for CPUs: docs/platforms.md explains how to build and use the image.
FROM debian:13.8-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv && python3 -m venv /opt/rsft
WORKDIR /src
COPY . .
# The packages of PyTorch for CPUs. An empty value installs the ones for NVIDIA GPUs.
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN /opt/rsft/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt .

FROM debian:13.8-slim
RUN apt-get update && apt-get install --yes --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/rsft /opt/rsft
ENV PATH=/opt/rsft/bin:$PATH
# The folder of the user is mounted here.
WORKDIR /data
# Any user works; this one has no name, no home folder and no rights.
USER 10001:10001
ENTRYPOINT ["rsft"]
CMD ["--help"]
