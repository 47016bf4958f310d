# An image with the static program only. scripts/release builds the program itself, and replaces the first stage with a build
# context of the same name.
FROM rust:1-alpine AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --features cql-tls --bin exporter-proxy \
    && scripts/image-root target/release/exporter-proxy /image

FROM scratch
COPY --from=build /image/root /
# The program's user must own the directory of its state. --chown applies only to what a copy creates, so this directory is
# copied separately.
COPY --from=build --chown=65532:65532 /image/state /var/lib
USER 65532:65532
# Ports of scrapes, pushes and apps.
EXPOSE 6555 6556 6554
VOLUME ["/var/lib/exporter-proxy"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["/usr/bin/exporter-proxy", "healthcheck", "--config", "/etc/exporter-proxy/config.toml"]
ENTRYPOINT ["/usr/bin/exporter-proxy", "--config", "/etc/exporter-proxy/config.toml"]
