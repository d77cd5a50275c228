# docker build -t mqfleet .                                   (tools/package image also labels it)
# docker run --rm -p 127.0.0.1:8080:8080 -v mqfleet:/var/lib/mqfleet mqfleet
#
# Then open http://127.0.0.1:8080/console with the token that the first start prints. See docs/image.md.

# Debian 12 or 13.
ARG BASE=debian:12-slim

FROM ${BASE} AS build
WORKDIR /src
# What changes seldom comes first: these packages are installed once.
COPY tools/install-deps tools/
COPY src/sink/types src/sink/types
RUN tools/install-deps --build --sinks
COPY . .
RUN cmake --preset release -DMQFLEET_TESTS=OFF -DMQFLEET_SINK_KAFKA=ON -DMQFLEET_SINK_NATS=ON \
        -DMQFLEET_SINK_POSTGRES=ON -DMQFLEET_SINK_RABBITMQ=ON \
    && cmake --build --preset release -j "$(nproc)" \
    && strip --strip-debug build/release/mqfleetd build/release/mqfleet build/release/sinks/*.so

FROM ${BASE}
COPY tools/install-deps /tmp/mqfleet/tools/
COPY src/sink/types /tmp/mqfleet/src/sink/types
# The user's number is fixed: volumes and files of secrets are given to it.
RUN /tmp/mqfleet/tools/install-deps --run --sinks \
    && rm -rf /tmp/mqfleet /var/lib/apt/lists/* /var/cache/apt/archives/*.deb \
    && groupadd --gid 10001 mqfleet \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home \
        --home-dir /var/lib/mqfleet --shell /usr/sbin/nologin mqfleet \
    && install -d -o mqfleet -g mqfleet -m 0700 /var/lib/mqfleet \
    && install -d -m 0755 /etc/mqfleet
COPY --from=build /src/build/release/mqfleetd /src/build/release/mqfleet /usr/local/bin/
COPY --from=build /src/build/release/sinks /usr/local/lib/mqfleet/sinks
COPY LICENSE conf/debian/copyright /usr/local/share/doc/mqfleet/
COPY conf/image/mqfleet.yml /usr/local/share/mqfleet/image.yml
COPY --chmod=0755 conf/image/entry /usr/local/bin/mqfleet-entry
COPY --chmod=0755 conf/image/health /usr/local/bin/mqfleet-health
USER 10001:10001
# Only a default: state_dir in a file, in the environment or in a flag wins.
ENV STATE_DIRECTORY=/var/lib/mqfleet
VOLUME /var/lib/mqfleet
WORKDIR /var/lib/mqfleet
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["mqfleet-health"]
ENTRYPOINT ["mqfleet-entry"]
ARG VERSION=""
ARG REVISION=""
ARG CREATED=""
LABEL org.opencontainers.image.title="mqfleet" \
      org.opencontainers.image.description="Hosts MQTT client connections: a node of a fleet" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
