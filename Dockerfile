# The host with the functions of src/ and the settings of config/. How to build, run and deploy it:
# docs/deployment.md
FROM docker.io/library/python:3.11-slim-bookworm AS base

# A fixed number, so that volumes and policies can name the user.
RUN groupadd --gid 10001 flexfun \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
      --shell /usr/sbin/nologin flexfun \
 && install -d -o 10001 -g 10001 -m 700 /var/lib/flexfun

# Packages before code: this layer is made anew only when requirements.txt changes. What no host
# loads goes: tests, sources in C++ and Cython, libraries of pyarrow that are there under three
# names, of which it loads that with one number; then pip, and of Debian what people read.
COPY requirements.txt /tmp/
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
      -r /tmp/requirements.txt \
 && cd "$(python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')" \
 && rm -rf pyarrow/tests pyarrow/include pyarrow/src \
      pyarrow/*.pyx pyarrow/*.pxd pyarrow/*.pxi pyarrow/_pyarrow_cpp_tests.* \
      pyarrow/libarrow_python*.so pyarrow/libarrow_python*.so.*.*.* \
 && pip uninstall -q -y --root-user-action=ignore setuptools wheel pip \
 && cd .. \
 && find . -path ./site-packages -prune -o -type d -regex '.*/tests?' -prune -exec rm -r {} + \
 && rm -rf /usr/local/include idlelib tkinter turtledemo ensurepip config-* \
      /tmp/* /root/.cache /usr/share/doc /usr/share/man /usr/share/info \
      /usr/share/locale /var/lib/apt/lists/* /var/cache/apt/*

# The base comes without compiled modules, and the user of the image cannot write them: each start
# would compile. A package may hold a file that is no Python of this version.
RUN cd /usr/local/lib/python3.* && find . -name __pycache__ -prune -exec rm -r {} + \
 && python -m compileall -qq . || :

# What was deleted would still be in the layers of the image that this began with.
FROM scratch
COPY --from=base / /
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8

WORKDIR /app

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
    TMPDIR=/var/lib/flexfun \
    GOODDATA_FLIGHT_SERVER__RESULT_SPOOL_DIR=/var/lib/flexfun \
    GOODDATA_FLIGHT_SERVER__LISTEN_HOST=0.0.0.0 \
    GOODDATA_FLIGHT_SERVER__HEALTH_CHECK_HOST=0.0.0.0 \
    GOODDATA_FLIGHT_SERVER__HEALTH_CHECK_PORT=8877

# All that is ever written: results that are too many for the memory, temporary files of functions.
# A volume, so that it is on a disk, and can be written where the rest is --read-only.
VOLUME /var/lib/flexfun

USER 10001:10001

# Arrow Flight, health, metrics (when switched on)
EXPOSE 17001 8877 17101

# http.client: it passes by the proxies that a container may be told to use.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", \
  "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['GOODDATA_FLIGHT_SERVER__HEALTH_CHECK_PORT']), timeout=4); c.request('GET', '/ready'); raise SystemExit(c.getresponse().status != 204)"]

# The shell finds the files, then `exec` makes Python process 1, which is the one that gets signals.
# What follows the image's name in `docker run` goes to `flexhost start`, for example --dev-log.
ENTRYPOINT ["sh", "-c", "exec python -m flexhost start --config /app/config/*.config.toml \"$@\"", "flexhost"]
