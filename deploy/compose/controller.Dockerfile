# The controller for machines without a cluster: it starts model servers as its own child processes, so this image holds
# the model server too. The controller's own image stays without, since in a cluster pods bring theirs.
# Build from the root of the repository: docker build -f deploy/compose/controller.Dockerfile -t kingmaker-local .
# BASE is any image that has Python 3.11 or 3.12 with its venv module as `python`.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
WORKDIR /build
# Nobody edits a file of an image: compiled modules need not be compared with their sources at every start.
ENV UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1 PYC_INVALIDATION_MODE=UNCHECKED_HASH
COPY requirements/uv.txt requirements/
RUN python -m venv tools && tools/bin/pip install --no-cache-dir --require-hashes -r requirements/uv.txt
COPY requirements/controller.txt requirements/model-server.txt requirements/
# Both lists come from one resolution, so they name the same versions.
RUN python -m venv --without-pip /opt/kingmaker \
    && tools/bin/uv pip install --python /opt/kingmaker/bin/python --require-hashes \
        -r requirements/controller.txt -r requirements/model-server.txt \
    && find /opt/kingmaker -depth -type d -name tests -exec rm -r {} +
COPY packages/contracts packages/contracts
COPY packages/servicekit packages/servicekit
COPY services/controller services/controller
COPY services/model-server services/model-server
RUN tools/bin/uv pip install --python /opt/kingmaker/bin/python --offline --no-deps --target /opt/code \
    ./packages/contracts ./packages/servicekit ./services/controller ./services/model-server

FROM ${BASE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="kingmaker-local" \
      org.opencontainers.image.description="The controller with model servers as child processes, for machines without a cluster" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN echo kingmaker:x:65532: >> /etc/group && echo kingmaker:x:65532:65532::/tmp:/sbin/nologin >> /etc/passwd \
    && mkdir /data && chown 65532:65532 /data
COPY --from=build /opt/kingmaker /opt/kingmaker
COPY --from=build /opt/code /opt/code
ENV PATH=/opt/kingmaker/bin:$PATH PYTHONPATH=/opt/code PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    KINGMAKER_CONTROLLER_HOST=0.0.0.0 KINGMAKER_CONTROLLER_PORT=8083 \
    KINGMAKER_CONTROLLER_STATE_DIR=/data KINGMAKER_CONTROLLER_TOKEN_FILE=/data/token
USER 65532:65532
EXPOSE 8083
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:%s/health/live' % os.environ['KINGMAKER_CONTROLLER_PORT'], timeout=4)"]
# The first start makes the token that the controller's API asks for.
ENTRYPOINT ["sh", "-c", "[ -s \"$KINGMAKER_CONTROLLER_TOKEN_FILE\" ] || (umask 077 && python -c 'import secrets; print(secrets.token_urlsafe(32))' > \"$KINGMAKER_CONTROLLER_TOKEN_FILE\") && exec python -m kingmaker_controller"]
