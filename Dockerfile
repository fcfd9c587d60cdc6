# How to build and run it: README.md. It serves the policies mounted at /etc/headgate/policies; none are in the
# image, because the key of the example ones is public.

# The official images are PGO builds; an interpreter that is not needs 7-15 % more CPU a call.
FROM python:3.13-slim AS build
WORKDIR /build
COPY requirements-build.lock requirements.lock ./
RUN python -m venv /opt/headgate \
    && /opt/headgate/bin/pip install --no-cache-dir --require-hashes --no-deps --only-binary :all: -r requirements.lock \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes --no-deps --only-binary :all: -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
RUN /opt/build/bin/python -m hatchling build -t wheel -d /wheels \
    && /opt/headgate/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl \
    && /opt/headgate/bin/python -m compileall -q /opt/headgate/lib \
    && /opt/headgate/bin/pip uninstall -y -q pip

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/headgate --create-home headgate \
    && rm -rf /usr/local/lib/python3.13/ensurepip
COPY --from=build /opt/headgate /opt/headgate
ENV PATH=/opt/headgate/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HEADGATE_POLICIES=/etc/headgate/policies \
    HEADGATE_STATE=/var/lib/headgate \
    HEADGATE_LISTEN=0.0.0.0:8080 \
    HEADGATE_ADMIN=0.0.0.0:9464
USER headgate
VOLUME /var/lib/headgate
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", "\
import os, urllib.request as u; \
port = os.environ['HEADGATE_ADMIN'].rpartition(':')[2]; \
u.build_opener(u.ProxyHandler({})).open(f'http://127.0.0.1:{port}/readyz', timeout=2)"]
ENTRYPOINT ["headgate"]
CMD ["serve"]
