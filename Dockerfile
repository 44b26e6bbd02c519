# A static binary on an empty image. Build from the top of the repository:
#
#   docker build -t wsgate:dev .
#
# The builder image brings gcc and libc6-dev, all that aws-lc-sys needs on x86_64 and aarch64
# (it compiles with the cc crate there, without cmake, perl or bindgen). jemalloc needs make as well.
ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-slim-bookworm AS build
ARG TARGETARCH
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY config config
# The target is named so that crt-static reaches the program only: procedural macros are shared
# libraries and cannot be linked statically. Touched, because the cached target would take a source
# that is older than itself for unchanged.
RUN --mount=type=cache,id=wsgate-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=wsgate-target,target=/src/target,sharing=locked \
    set -eu; \
    case "${TARGETARCH:-$(dpkg --print-architecture)}" in \
      amd64) target=x86_64-unknown-linux-gnu ;; \
      arm64) target=aarch64-unknown-linux-gnu ;; \
      *) echo "no target for architecture ${TARGETARCH}" >&2; exit 1 ;; \
    esac; \
    touch src/lib.rs src/main.rs; \
    RUSTFLAGS="-C target-feature=+crt-static" \
      cargo build --release --locked --target "$target" --bin wsgate; \
    mkdir -p /out/etc/wsgate /out/wsgate-tls; \
    cp "target/$target/release/wsgate" /out/wsgate

FROM scratch
LABEL org.opencontainers.image.title="wsgate" \
      org.opencontainers.image.description="A TLS 1.3 edge for WebSocket applications" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY LICENSE-MIT LICENSE-APACHE /licenses/
COPY --from=build --chmod=0555 /out/wsgate /wsgate
COPY --from=build /out/etc /etc
# The home of the certificates. Its owner is what a fresh named volume mounted here inherits.
COPY --from=build --chown=65532:65532 /out/wsgate-tls /etc/wsgate-tls
USER 65532:65532
# https, the redirect to it, and the status listener
EXPOSE 8443 8080 9180
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["/wsgate", "healthcheck"]
ENTRYPOINT ["/wsgate"]
