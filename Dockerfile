# One image for Locust's master and workers, the bench and `stalewatch`:
#   docker build -t stalewatch:0.1.0 .          (or: docker compose build bench)
ARG PYTHON_IMAGE=python:3.11.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /srv/build
# Packages that rarely change go first, into their own layer.
COPY requirements.txt constraints.txt ./
ENV PIP_CONSTRAINT=/srv/build/constraints.txt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /srv/venv && /srv/venv/bin/pip install --only-binary :all: -r requirements.txt
COPY pyproject.toml README.md LICENSE prometheus.yml ./
COPY checkers checkers
COPY clients clients
COPY locustfiles locustfiles
COPY grafana grafana
COPY replication replication
COPY rules rules
COPY stalewatch stalewatch
RUN /srv/venv/bin/pip install --no-deps . && /srv/venv/bin/pip uninstall --yes pip setuptools

FROM ${PYTHON_IMAGE}
COPY --from=build /srv/venv /srv/venv
WORKDIR /srv/stalewatch
COPY bench.py ./
COPY locustfiles locustfiles
COPY examples examples
# No user with that number needs to exist; output goes to /tmp, or to a folder that is mounted for it.
ENV PATH=/srv/venv/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8089 5557 9646
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["python", "-m", "stalewatch.locust.health"]
CMD ["stalewatch", "--help"]
