# Stands for the images of other projects that conf/compose.yml names, which not everybody reaches: the
# same programs, started in the same way as the same users.
ARG BASE
FROM ${BASE} AS redis
RUN apt-get update -q && apt-get install -y -q --no-install-recommends redis-server \
    && install -d -o 999 -g 999 /data
VOLUME /data
ENTRYPOINT ["setpriv", "--reuid=999", "--regid=999", "--clear-groups"]

FROM ${BASE} AS mosquitto
RUN apt-get update -q && apt-get install -y -q --no-install-recommends mosquitto mosquitto-clients

FROM ${BASE} AS prometheus
RUN apt-get update -q && apt-get install -y -q --no-install-recommends prometheus \
    && install -d -o 65534 -g 65534 /prometheus
USER 65534
VOLUME /prometheus
ENTRYPOINT ["prometheus"]
