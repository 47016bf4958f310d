# An image with a static program and nothing else. scripts/release has built the program already, and replaces the first
# stage by a build context of the same name.
FROM rust:1-alpine AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --features cql-tls --bin exporter-proxy \
    && scripts/image-root target/release/exporter-proxy /image

FROM scratch
COPY --from=build /image/root /
# The user that the program runs as owns the directory of its state. Only what a copy makes gets an owner, so the directory is
# not in the root directory.
COPY --from=build --chown=65532:65532 /image/state /var/lib
USER 65532:65532
# Scrapes, pushes, apps.
EXPOSE 6555 6556 6554
VOLUME ["/var/lib/exporter-proxy"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["/usr/bin/exporter-proxy", "healthcheck", "--config", "/etc/exporter-proxy/config.toml"]
ENTRYPOINT ["/usr/bin/exporter-proxy", "--config", "/etc/exporter-proxy/config.toml"]
