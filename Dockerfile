# docker build -t mqfleet .
# docker run --rm --network host -v mqfleet:/var/lib/mqfleet mqfleet
#
# The API listens on the container's loopback unless told otherwise; see http.listen in docs/settings.md.

FROM debian:12 AS build
WORKDIR /src
COPY tools/install-deps tools/install-deps
RUN tools/install-deps --build
COPY . .
RUN tools/install-deps --build --sinks
RUN cmake --preset release -DMQFLEET_TESTS=OFF && cmake --build --preset release -j "$(nproc)"

FROM debian:12-slim
COPY tools/install-deps /tmp/mqfleet/tools/install-deps
COPY src/sink/types /tmp/mqfleet/src/sink/types
RUN /tmp/mqfleet/tools/install-deps --run --sinks && rm -rf /tmp/mqfleet /var/lib/apt/lists/* \
    && useradd --system --home-dir /var/lib/mqfleet --create-home mqfleet
COPY --from=build /src/build/release/mqfleetd /src/build/release/mqfleet /usr/local/bin/
COPY --from=build /src/build/release/sinks /usr/local/lib/mqfleet/sinks
USER mqfleet
ENV STATE_DIRECTORY=/var/lib/mqfleet MQFLEET_NODE_INFO_PORT=8080
VOLUME /var/lib/mqfleet
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD curl -fsS "http://127.0.0.1:$MQFLEET_NODE_INFO_PORT/livez" || exit 1
ENTRYPOINT ["mqfleetd"]
