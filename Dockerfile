# One image for every command: serve, check, demo, ledger, migrate.
#   docker run --read-only --tmpfs /tmp -v bridge:/data -v ./config:/config:ro --env-file secrets.env -p 8700:8700 <image>
# The config says where the store lies: sqlite:////data/bridge.db, and listen.doors: "0.0.0.0:8700".
FROM python:3.13-slim AS build
RUN pip install --no-cache-dir uv
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PROJECT_ENVIRONMENT=/app
WORKDIR /src
COPY pyproject.toml uv.lock README.md ./
RUN uv sync --frozen --no-dev --extra postgres --no-install-project
COPY bridge bridge
COPY config config
RUN uv sync --frozen --no-dev --extra postgres --no-editable

FROM python:3.13-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin bridge \
 && install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 BRIDGE_CONFIG=/config/bridge.yaml
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8700 8701
# The console listens inside the container only unless the config says otherwise; health is asked from inside.
HEALTHCHECK --interval=15s --timeout=3s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r, os; r.urlopen(os.environ.get('BRIDGE_HEALTH', 'http://127.0.0.1:8701/healthz'), timeout=2)"]
ENTRYPOINT ["bridge"]
CMD ["serve"]
