# The whole of throng is one static binary, and it is all there is in the image: `docker build -t throng:0.1.0 .`
ARG RUST_VERSION=1.95

FROM docker.io/library/rust:${RUST_VERSION}-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY tools tools
COPY src src
# A target that is named keeps crt-static away from build scripts and macros. The image goes without the debugging
# information that a release build has elsewhere; names of functions stay, so that a backtrace can be read.
ENV RUSTFLAGS="-C target-feature=+crt-static" CARGO_PROFILE_RELEASE_STRIP=debuginfo
RUN --mount=type=cache,id=throng-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=throng-target,target=/src/target \
    target="$(uname -m)-unknown-linux-gnu" && \
    cargo build --release --locked --bin throng --target "$target" && \
    install -D "target/$target/release/throng" /out/throng && \
    install -D -m 644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="throng" \
      org.opencontainers.image.description="A WebSocket gateway built for connection density" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The certificates are for rediss:// and for `throng client --url wss://…`.
COPY --from=build /out /
# A number, so that a cluster can see that it is not root. Nothing is written: the root may be read-only.
USER 65532:65532
EXPOSE 8080 8765
# The drain of docs/kubernetes.md and README.md begins with it. As PID 1 throng has handlers for it, and starts no
# processes that somebody would have to reap.
STOPSIGNAL SIGTERM
# The check gives up before it is given up, so that its log says why.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["/throng", "health", "--quiet", "--timeout", "2s"]
ENTRYPOINT ["/throng"]
CMD ["serve"]
