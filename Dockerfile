# pygan with its CUDA kernels, in images that share their layers:
#
#   docker build -t pygan .                          everything: docker run --gpus all pygan train pix2pix --amp
#   docker build -t pygan-serve --target serve .     only serves, and says whether it is well
#
# The kernels are compiled where nvcc is, the rest stands on NVIDIA's base image: it is the CUDA runtime and what lets
# the driver in. cuBLAS, cuDNN and the like come with torch's own wheel, so the larger "runtime" image would have them
# twice. docs/cloud.md says how to run it.

ARG CUDA=13.0.2
ARG UBUNTU=24.04

FROM nvidia/cuda:${CUDA}-base-ubuntu${UBUNTU} AS torch
ARG TORCH=2.13.0
# Ubuntu keeps only the newest patch of a package: a version pinned today is gone next month.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --no-install-recommends -y python3 python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/pygan
ENV PATH=/opt/pygan/bin:${PATH}
RUN pip install --no-cache-dir "torch==${TORCH}"

FROM nvidia/cuda:${CUDA}-devel-ubuntu${UBUNTU} AS wheel
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --no-install-recommends -y python3 python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
COPY --from=torch /opt/pygan /opt/pygan
ENV PATH=/opt/pygan/bin:${PATH}
WORKDIR /src
COPY pyproject.toml CMakeLists.txt README.md LICENSE ./
COPY build_backend build_backend
COPY csrc csrc
COPY pygan pygan
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM torch AS pygan
COPY --from=wheel /wheels /wheels
# hadolint ignore=DL3013
RUN set -- /wheels/pygan-*.whl \
 && pip install --no-cache-dir "$1[serve,export]" \
 && useradd --uid 10001 --create-home pygan \
 && install --directory --owner=pygan --mode=0777 /pygan /pygan/runs
USER 10001
WORKDIR /pygan
# Caches lie beside the runs, because a user given by --user has no home here.
ENV XDG_CACHE_HOME=/pygan/runs/.cache PYTHONUNBUFFERED=1
VOLUME /pygan/runs
ENTRYPOINT ["pygan"]
CMD ["doctor"]

FROM pygan AS serve
EXPOSE 8000
HEALTHCHECK --start-period=60s --interval=30s --timeout=10s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
ENTRYPOINT ["pygan", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["--help"]

FROM pygan
