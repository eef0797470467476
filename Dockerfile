# `hpcm serve` in a container: docs/serving.md says how it is built and run.
ARG PYTHON=python:3.13-slim-bookworm
ARG NODE=node:20-bookworm-slim

# The native library as WebAssembly, for the page.
FROM ${PYTHON} AS wasm
WORKDIR /hpcm
COPY constraints.txt ./
RUN pip install --no-cache-dir -c constraints.txt ziglang
COPY core core
RUN python core/build.py --wasm

FROM ${NODE} AS page
WORKDIR /hpcm/web
COPY web/package.json web/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY web ./
COPY --from=wasm /hpcm/build/wasm ../build/wasm
RUN node build.js

# An environment without pip, which the last stage takes as it is.
FROM ${PYTHON} AS environment
WORKDIR /hpcm
RUN python -m venv --without-pip /opt/hpcm
COPY pyproject.toml hatch_build.py constraints.txt README.md LICENSE ./
COPY core core
COPY src src
COPY --from=page /hpcm/web/dist src/hpcm/serve/page
RUN pip --python /opt/hpcm install --no-cache-dir -c constraints.txt '.[serve]'

FROM ${PYTHON}
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin hpcm
COPY --from=environment /opt/hpcm /opt/hpcm
# More models may be mounted there.
ENV PATH="/opt/hpcm/bin:$PATH" HPCM_WEIGHTS=/weights
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["hpcm"]
CMD ["serve", "--host", "0.0.0.0"]
