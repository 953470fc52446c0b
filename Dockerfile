# One image for Ray's head, its workers and the study's driver: all must run the same Python and packages.
# torch's wheel brings its own CUDA libraries; the base is their release (13.0) and asks the container runtime for the GPUs.
FROM nvidia/cuda:13.0.2-base-ubuntu24.04

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# ssh and rsync are what Ray's launcher reaches machines with, from its head's container; KubeRay probes pods with wget.
# The launcher's commands run in login shells, whose profile says again where programs are found.
# The distribution keeps only its newest versions, so a pinned one would soon not be found.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openssh-client python3 python3-venv rsync wget \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv \
    && useradd --uid 10001 --create-home --shell /bin/bash study \
    && install --directory --owner study --group study /studies \
    && echo "PATH=/opt/venv/bin:\$PATH" > /etc/profile.d/robust-study.sh

ENV VIRTUAL_ENV=/opt/venv \
    PATH=/opt/venv/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    UV_NO_CACHE=1 \
    UV_COMPILE_BYTECODE=1 \
    PYTHONUNBUFFERED=1

# The dependencies, torch among them, are a layer of their own: only these two files can make it out of date.
WORKDIR /opt/robust-study
COPY pyproject.toml constraints.txt ./
RUN python -m pip install --constraint constraints.txt uv \
    && uv pip install --compile-bytecode --constraints constraints.txt --requirements pyproject.toml --extra autoattack --extra cluster --extra postgres

COPY README.md LICENSE ./
COPY trainables/ trainables/
COPY search_spaces/ search_spaces/
COPY analysis/ analysis/
COPY study/ study/
RUN uv pip install --no-deps . \
    && rm -rf build ./*.egg-info

# By number, so that a cluster can see that it is not root.
USER 10001
WORKDIR /studies
CMD ["robust-study", "--help"]
