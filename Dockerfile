# The host with the functions of src/ and the settings of config/. How to build, run and deploy it:
# docs/deployment.md
FROM docker.io/library/python:3.11-slim-bookworm

# A fixed number, so that volumes and policies can name the user.
RUN groupadd --gid 10001 flexfun \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
      --shell /usr/sbin/nologin flexfun

WORKDIR /app

# Packages before code: this layer is made anew only when requirements.txt changes.
COPY requirements.txt .
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
      -r requirements.txt \
 && rm -r "$(python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')/pyarrow/tests"

# Compiled here, because the user of the image cannot write. chmod: a checkout may be made with a
# strict umask.
COPY src src
COPY config config
RUN chmod -R a+rX . && python -m compileall -q src

# Variables win over the files of config/. With authentication_method = "none" a host that listens
# on 0.0.0.0 does not start: whoever runs the image in a closed network says so, with
# GOODDATA_FLIGHT_SERVER__ALLOW_INSECURE=true.
ENV PYTHONPATH=/app/src \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GOODDATA_FLIGHT_SERVER__LISTEN_HOST=0.0.0.0 \
    GOODDATA_FLIGHT_SERVER__HEALTH_CHECK_HOST=0.0.0.0 \
    GOODDATA_FLIGHT_SERVER__HEALTH_CHECK_PORT=8877

USER 10001:10001

# Arrow Flight, health, metrics (when switched on)
EXPOSE 17001 8877 17101

# http.client: it passes by the proxies that a container may be told to use.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", \
  "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['GOODDATA_FLIGHT_SERVER__HEALTH_CHECK_PORT']), timeout=4); c.request('GET', '/ready'); raise SystemExit(c.getresponse().status != 204)"]

# The shell finds the files, then `exec` makes Python process 1, which is the one that gets signals.
# What follows the image's name in `docker run` goes to `flexhost start`, for example --dev-log.
ENTRYPOINT ["sh", "-c", "exec python -m flexhost start --config /app/config/*.config.toml \"$@\"", "flexhost"]
