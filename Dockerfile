# An exported folder behind HTTP, on a CPU, without torch: docs/guides/serve.md
#   dualvqa export runs/mine runs/mine_onnx
#   docker build -t mine --build-arg MODEL=runs/mine_onnx .
#   docker run --rm -p 8000:8000 --read-only --tmpfs /tmp mine
# The server alone, for a model that is mounted:
#   docker build -t dualvqa-light --target server .
#   docker run --rm -p 8000:8000 -v ./runs/mine_onnx:/model:ro dualvqa-light
FROM python:3.12-slim AS server

# Building the light package takes the modules that read images from processing/.
WORKDIR /build
COPY constraints.txt ./
COPY processing processing
COPY dualvqa_light dualvqa_light
RUN pip install --no-cache-dir -c constraints.txt "./dualvqa_light[serve]" && rm -rf /build/*

RUN useradd --system --no-create-home --uid 10001 dualvqa
USER 10001
WORKDIR /
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["dualvqa-light", "/model", "--host", "0.0.0.0", "--port", "8000"]

FROM server
ARG MODEL=runs/mine_onnx
COPY ${MODEL} /model
