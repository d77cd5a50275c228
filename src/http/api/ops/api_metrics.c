/* GET /metrics: the counters of base/telemetry/metrics.h, and gauges that are read per request. The
 * handler threads; never waits. */
#include "http/api/api.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/telemetry/exposition.h"
#include "base/system/json_memory.h"
#include "http/server/pending.h"
#include "mqtt/client/client_state.h"
#include "sink/sink.h"
#include "client_groups.h"
#include "stream_metrics.h"

#define LABELS_LEN 600

/* Read once for all gauges. */
struct scrape {
    const struct http_api *api;
    const struct http_context *context;
    struct buffer *out;
};

static void api_metrics_put_gauge(struct scrape *scrape, const char *name, const char *help,
                                  int64_t value) {
    exposition_family(scrape->out, name, "gauge", help);
    exposition_int(scrape->out, name, "", value);
}

static void api_metrics_put_gauge_double(struct scrape *scrape, const char *name, const char *help,
                                         double value) {
    exposition_family(scrape->out, name, "gauge", help);
    exposition_double(scrape->out, name, "", value);
}

/* ---- the node -------------------------------------------------------------------------------- */

static void api_metrics_put_info(struct scrape *scrape) {
    const struct conf *conf = scrape->context->conf;
    char name[256], type[128], labels[LABELS_LEN];
    snprintf(labels, sizeof(labels), "version=\"%s\"", MQFLEET_VERSION);
    exposition_family(scrape->out, "mqfleet_build_info", "gauge",
                      "Version of the program; always 1.");
    exposition_int(scrape->out, "mqfleet_build_info", labels, 1);
    snprintf(labels, sizeof(labels), "node=\"%s\",type=\"%s\",engine=\"%s\"",
             exposition_escape(conf->node_name, name, sizeof(name)),
             exposition_escape(conf->node_type, type, sizeof(type)), conf->engine);
    exposition_family(scrape->out, "mqfleet_node_info", "gauge",
                      "Name, type and engine of the node; always 1.");
    exposition_int(scrape->out, "mqfleet_node_info", labels, 1);
}

/* Several states are shown as one. */
static void api_metrics_put_clients(struct scrape *scrape) {
    static const char *const shown[] = {"connecting", "online", "backoff", "conflict", "paused"};
    int64_t counts[CLIENT_STATE_COUNT];
    workers_state_counts(scrape->context->workers, counts);
    exposition_family(scrape->out, "mqfleet_clients", "gauge", "Clients of this node by state.");
    for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
        char labels[64];
        int64_t sum = 0;
        for (enum client_state state = 0; state < CLIENT_STATE_COUNT; state++) {
            sum += strcmp(client_state_shown(state), shown[i]) == 0 ? counts[state] : 0;
        }
        snprintf(labels, sizeof(labels), "state=\"%s\"", shown[i]);
        exposition_int(scrape->out, "mqfleet_clients", labels, sum);
    }
    api_metrics_put_gauge(
        scrape, "mqfleet_clients_degraded",
        "Clients of this node, online or not, with a subscription that the broker refuses in "
        "SUBACK or by closing the connection.",
        workers_degraded_count(scrape->context->workers));
    api_metrics_put_gauge(scrape, "mqfleet_clients_silent",
                          "Clients of this node that received no message for their "
                          "expect_message_within_s.",
                          workers_silent_count(scrape->context->workers));
    api_metrics_put_gauge(scrape, "mqfleet_profile_clients_pending",
                          "Clients of this node that still run an older version of their profile.",
                          agent_profile_changes_pending(scrape->context->agent));
    api_metrics_put_gauge(scrape, "mqfleet_node_size_clients",
                          "Maximum number of clients on this node: node_info.size.",
                          scrape->context->conf->node_size);
    api_metrics_put_gauge(scrape, "mqfleet_broker_incidents",
                          "Brokers that no client of this node can reach now.",
                          workers_incidents_sum(scrape->context->workers).open);
}

struct certificates {
    int64_t earliest_ms; /* 0: none */
};

static void api_metrics_note_certificate(void *context, const struct broker_view *view) {
    struct certificates *certificates = context;
    int64_t at_ms = view->certificate_expires_at_ms;
    if (at_ms != 0 && (certificates->earliest_ms == 0 || at_ms < certificates->earliest_ms)) {
        certificates->earliest_ms = at_ms;
    }
}

/* Without a value while no client uses TLS. */
static void api_metrics_put_certificates(struct scrape *scrape) {
    static const char name[] = "mqfleet_broker_certificate_expiry_timestamp_seconds";
    struct certificates certificates = {0};
    workers_visit_brokers(scrape->context->workers, api_metrics_note_certificate, &certificates);
    exposition_family(scrape->out, name, "gauge",
                      "The earliest expiry of the brokers' certificates that the latest "
                      "connections of this node saw, in seconds since 1970.");
    if (certificates.earliest_ms != 0) {
        exposition_int(scrape->out, name, "", certificates.earliest_ms / 1000);
    }
}

static void api_metrics_put_membership(struct scrape *scrape) {
    struct node *node = scrape->context->node;
    int64_t age_ms = node_heartbeat_age_ms(node);
    api_metrics_put_gauge(scrape, "mqfleet_member",
                          "1 while the node is registered in the fleet and not fenced.",
                          node_membership(node) == NODE_MEMBER);
    api_metrics_put_gauge(scrape, "mqfleet_lease_valid", "1 while the node may open connections.",
                          node_lease_valid(node));
    api_metrics_put_gauge(scrape, "mqfleet_draining", "1 while the node is draining.",
                          node_is_draining(node));
    api_metrics_put_gauge(scrape, "mqfleet_leader", "1 on the node that is leader.",
                          node_role(node) == STORE_ROLE_LEADER &&
                              node_membership(node) == NODE_MEMBER);
    if (age_ms >= 0) {
        api_metrics_put_gauge_double(scrape, "mqfleet_heartbeat_age_seconds",
                                     "Time since the last answered heartbeat was sent.",
                                     (double)age_ms / 1000);
    }
}

/* A row for each reason that the leader counts, so unused ones show 0. */
static void api_metrics_put_unplaced(struct scrape *scrape, int64_t waiting) {
    const char *name = "mqfleet_fleet_unplaced_clients";
    char text[STORE_UNPLACED_LEN], labels[64];
    node_unplaced_json(scrape->context->node, text);
    json_t *counts = json_from_text(text, strlen(text), 0);
    if (!counts && waiting > 0) {
        return; /* the leader has not counted yet */
    }
    exposition_family(
        scrape->out, name, "gauge",
        "Clients of the whole fleet without a node, by reason, as counted by the leader; the "
        "same on each node.");
    for (size_t i = 0; i < PLACEMENT_WAIT_COUNT; i++) {
        const char *reason = placement_wait_code((enum placement_wait)i);
        snprintf(labels, sizeof(labels), "reason=\"%s\"", reason);
        exposition_int(scrape->out, name, labels,
                       json_integer_value(json_object_get(counts, reason)));
    }
    json_decref(counts);
}

/* Omitted while Redis does not answer. */
static void api_metrics_put_fleet(struct scrape *scrape) {
    struct store_counts counts;
    if (!node_fleet_counts(scrape->context->node, &counts)) {
        return;
    }
    api_metrics_put_gauge(
        scrape, "mqfleet_fleet_waiting_clients",
        "Clients of the whole fleet that wait for a node and could be assigned now; the same "
        "on each node.",
        counts.waiting - counts.cooling_down);
    api_metrics_put_gauge(
        scrape, "mqfleet_fleet_resting_clients",
        "Clients of the whole fleet in a cool-down after a conflict or a failure; the same on "
        "each node.",
        counts.cooling_down);
    api_metrics_put_gauge(
        scrape, "mqfleet_fleet_owned_clients",
        "Clients of the whole fleet that are owned by a node; the same on each node.",
        counts.owned);
    api_metrics_put_unplaced(scrape, counts.waiting);
}

/* Omitted while not known. */
static void api_metrics_put_redis(struct scrape *scrape) {
    struct redis_info info;
    if (!agent_redis_facts(scrape->context->agent, &info)) {
        return;
    }
    api_metrics_put_gauge(scrape, "mqfleet_redis_memory_bytes", "Memory used by the fleet's Redis.",
                          info.used_bytes);
    api_metrics_put_gauge(scrape, "mqfleet_redis_memory_limit_bytes",
                          "maxmemory of the fleet's Redis; 0: no limit.", info.max_bytes);
    api_metrics_put_gauge(scrape, "mqfleet_redis_replicas",
                          "Connected replicas of the fleet's Redis.", info.replicas);
}

/* ---- sinks ----------------------------------------------------------------------------------- */

static const struct {
    const char *name, *help;
    size_t offset;
} sink_gauges[] = {
    {"mqfleet_sink_queue_messages", "Messages waiting for the sink.",
     offsetof(struct sink_status, queued_messages)},
    {"mqfleet_sink_queue_bytes", "Bytes waiting for the sink.",
     offsetof(struct sink_status, queued_bytes)},
    {"mqfleet_sink_queue_limit_messages",
     "Maximum number of messages waiting for the sink: sink.queue_messages.",
     offsetof(struct sink_status, messages_max)},
    {"mqfleet_sink_queue_limit_bytes",
     "Maximum number of bytes waiting for the sink: sink.queue_bytes.",
     offsetof(struct sink_status, bytes_max)},
};

/* Omitted where not known. */
static const struct {
    const char *name, *help;
    size_t offset;
} store_gauges[] = {
    {"mqfleet_sink_store_entries", "Entries of the Redis stream.",
     offsetof(struct sink_status, store_entries)},
    {"mqfleet_sink_store_bytes", "Memory used by the Redis of the stream.",
     offsetof(struct sink_status, store_bytes)},
    {"mqfleet_sink_store_limit_bytes",
     "Limit of mqfleet_sink_store_bytes: maxmemory, or sink.redis_bytes_max in a Redis shared "
     "with the fleet; 0: no limit.",
     offsetof(struct sink_status, store_bytes_max)},
};

static void api_metrics_put_stores(struct scrape *scrape) {
    struct sinks *sinks = scrape->context->sinks;
    struct sink_status status;
    char labels[96];
    for (size_t row = 0; row < sizeof(store_gauges) / sizeof(store_gauges[0]); row++) {
        exposition_family(scrape->out, store_gauges[row].name, "gauge", store_gauges[row].help);
        size_t cursor = 0;
        while (sinks_next(sinks, &cursor, &status)) {
            int64_t value;
            memcpy(&value, (const char *)&status + store_gauges[row].offset, sizeof(value));
            snprintf(labels, sizeof(labels), "sink=\"%s\"", status.label);
            if (value >= 0) {
                exposition_int(scrape->out, store_gauges[row].name, labels, value);
            }
        }
    }
    exposition_family(
        scrape->out, "mqfleet_sink_paused", "gauge",
        "1 while the sink pauses: the Redis that it shares with the fleet has no more memory "
        "for it, or the stream is full (sink.redis_trim consumed).");
    size_t cursor = 0;
    while (sinks_next(sinks, &cursor, &status)) {
        snprintf(labels, sizeof(labels), "sink=\"%s\"", status.label);
        exposition_int(scrape->out, "mqfleet_sink_paused", labels, status.paused);
    }
    stream_metrics_put(sinks, scrape->out);
}

/* Rows of one name are adjacent. */
static const struct {
    const char *name, *label, *help;
    size_t offset;
} sink_counters[] = {
    {"mqfleet_sink_retried_total", "",
     "Messages that a sink did not accept and that were tried again, once for each attempt.",
     offsetof(struct sink_status, retried)},
    {"mqfleet_sink_rejected_total", ",reason=\"content\"",
     "Messages that a sink gave up, as dead letters: its target refuses their content, or they were "
     "not accepted within retry_ms (expired).",
     offsetof(struct sink_status, rejected)},
    {"mqfleet_sink_rejected_total", ",reason=\"expired\"", "",
     offsetof(struct sink_status, expired)},
};

static void api_metrics_put_sink_counters(struct scrape *scrape) {
    struct sink_status status;
    char labels[128];
    for (size_t row = 0; row < sizeof(sink_counters) / sizeof(sink_counters[0]); row++) {
        if (row == 0 || strcmp(sink_counters[row].name, sink_counters[row - 1].name) != 0) {
            exposition_family(scrape->out, sink_counters[row].name, "counter",
                              sink_counters[row].help);
        }
        size_t cursor = 0;
        while (sinks_next(scrape->context->sinks, &cursor, &status)) {
            int64_t value;
            memcpy(&value, (const char *)&status + sink_counters[row].offset, sizeof(value));
            snprintf(labels, sizeof(labels), "sink=\"%s\"%s", status.label,
                     sink_counters[row].label);
            exposition_int(scrape->out, sink_counters[row].name, labels, value);
        }
    }
}

static void api_metrics_put_sink_latency(struct scrape *scrape) {
    struct sink_status status;
    char labels[96];
    size_t cursor = 0;
    exposition_family(scrape->out, "mqfleet_sink_outcome_seconds", "histogram",
                      "From receiving a message until this sink has accepted it or given it up. "
                      "mqfleet_sink_latency_seconds counts all accepted messages of the node.");
    while (sinks_next(scrape->context->sinks, &cursor, &status)) {
        snprintf(labels, sizeof(labels), "sink=\"%s\"", status.label);
        exposition_histogram(scrape->out, "mqfleet_sink_outcome_seconds", labels, &status.latency);
    }
}

static void api_metrics_put_sinks(struct scrape *scrape) {
    struct sinks *sinks = scrape->context->sinks;
    struct sink_status status;
    char labels[96];
    for (size_t row = 0; row < sizeof(sink_gauges) / sizeof(sink_gauges[0]); row++) {
        exposition_family(scrape->out, sink_gauges[row].name, "gauge", sink_gauges[row].help);
        size_t cursor = 0;
        while (sinks_next(sinks, &cursor, &status)) {
            snprintf(labels, sizeof(labels), "sink=\"%s\"", status.label);
            size_t value;
            memcpy(&value, (const char *)&status + sink_gauges[row].offset, sizeof(value));
            exposition_int(scrape->out, sink_gauges[row].name, labels, (int64_t)value);
        }
    }
    exposition_family(scrape->out, "mqfleet_sink_failing", "gauge",
                      "1 while the last write to the sink failed.");
    size_t cursor = 0;
    while (sinks_next(sinks, &cursor, &status)) {
        snprintf(labels, sizeof(labels), "sink=\"%s\"", status.label);
        exposition_int(scrape->out, "mqfleet_sink_failing", labels, status.failing);
    }
    api_metrics_put_sink_counters(scrape);
    api_metrics_put_sink_latency(scrape);
}

/* ---- what connections hold ------------------------------------------------------------------- */

static const struct {
    const char *name, *help;
    size_t offset;
} buffer_gauges[] = {
    {"mqfleet_buffers_bytes",
     "Bytes of packets that are incomplete, unsent, or wait for a sink. Engine reactor only.",
     offsetof(struct engine_buffers, bytes)},
    {"mqfleet_buffers_limit_bytes",
     "Limit of mqfleet_buffers_bytes: buffer_bytes of each worker thread.",
     offsetof(struct engine_buffers, bytes_max)},
    {"mqfleet_held_back_bytes",
     "Part of mqfleet_buffers_bytes: received messages that wait because their sink is full.",
     offsetof(struct engine_buffers, held_back_bytes)},
    {"mqfleet_held_back_clients", "Clients with messages that wait because their sink is full.",
     offsetof(struct engine_buffers, held_back_clients)},
};

static void api_metrics_put_buffers(struct scrape *scrape) {
    struct engine_buffers buffers;
    workers_buffers(scrape->context->workers, &buffers);
    for (size_t row = 0; row < sizeof buffer_gauges / sizeof *buffer_gauges; row++) {
        size_t value;
        memcpy(&value, (const char *)&buffers + buffer_gauges[row].offset, sizeof value);
        api_metrics_put_gauge(scrape, buffer_gauges[row].name, buffer_gauges[row].help,
                              (int64_t)value);
    }
}

static void api_metrics_put_requests(struct scrape *scrape) {
    api_metrics_put_gauge(scrape, "mqfleet_http_waiting_requests",
                          "HTTP requests that wait for a broker, a client or another node.",
                          (int64_t)pendings_count(scrape->api->pendings));
}

static void api_metrics_put_publications(struct scrape *scrape) {
    struct publish_use use = workers_publish_use(scrape->context->workers);
    api_metrics_put_gauge(
        scrape, "mqfleet_publications_waiting",
        "Publications whose callers wait for an acknowledgement, directly or through another "
        "node.",
        (int64_t)use.waiting);
    api_metrics_put_gauge(scrape, "mqfleet_publications_bytes",
                          "Bytes of publications that are neither acknowledged nor given up.",
                          (int64_t)use.bytes);
}

/* ---- the process, by the names all Prometheus clients use ------------------------------------ */

/* Since Linux 6.2, the size of the folder is the number of descriptors; before, they are counted.
 */
static int64_t api_metrics_open_file_count(void) {
    struct stat status;
    if (stat("/proc/self/fd", &status) == 0 && status.st_size > 0) {
        return status.st_size;
    }
    DIR *folder = opendir("/proc/self/fd");
    int64_t count = -3; /* ".", ".." and the folder itself */
    while (folder && readdir(folder)) {
        count++;
    }
    if (folder) {
        closedir(folder);
    }
    return count > 0 ? count : 0;
}

static void api_metrics_put_memory(struct scrape *scrape) {
    long long pages_virtual = 0, pages_resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file) {
        return;
    }
    if (fscanf(file, "%lld %lld", &pages_virtual, &pages_resident) == 2) {
        int64_t page = sysconf(_SC_PAGESIZE);
        api_metrics_put_gauge(scrape, "process_resident_memory_bytes", "Resident memory.",
                              pages_resident * page);
        api_metrics_put_gauge(scrape, "process_virtual_memory_bytes", "Virtual memory.",
                              pages_virtual * page);
    }
    fclose(file);
}

static void api_metrics_put_threads(struct scrape *scrape) {
    char line[1024] = "";
    FILE *file = fopen("/proc/self/stat", "re");
    if (!file) {
        return;
    }
    size_t len = fread(line, 1, sizeof(line) - 1, file);
    fclose(file);
    line[len] = '\0';
    const char *at = strrchr(line, ')'); /* the process name before it may contain anything */
    for (int field = 2; at && field < 20; field++) {
        at = strchr(at + 1, ' ');
    }
    if (at) {
        api_metrics_put_gauge(scrape, "process_threads", "Threads of the process.",
                              strtoll(at, NULL, 10));
    }
}

static double api_metrics_timeval_seconds(const struct timeval *time) {
    return (double)time->tv_sec + (double)time->tv_usec / 1e6;
}

static void api_metrics_put_process(struct scrape *scrape) {
    struct rusage usage;
    struct rlimit files;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        exposition_family(scrape->out, "process_cpu_seconds_total", "counter",
                          "User and system CPU time.");
        exposition_double(scrape->out, "process_cpu_seconds_total", "",
                          api_metrics_timeval_seconds(&usage.ru_utime) +
                              api_metrics_timeval_seconds(&usage.ru_stime));
    }
    api_metrics_put_memory(scrape);
    api_metrics_put_threads(scrape);
    api_metrics_put_gauge(scrape, "process_open_fds", "Open file descriptors.",
                          api_metrics_open_file_count());
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        api_metrics_put_gauge(scrape, "process_max_fds", "Maximum number of open file descriptors.",
                              (int64_t)files.rlim_cur);
    }
    api_metrics_put_gauge_double(scrape, "process_start_time_seconds",
                                 "Start time of the node, in seconds since 1970.",
                                 (double)node_started_at_ms(scrape->context->node) / 1000);
}

/* Out of memory: omitted. */
static void api_metrics_put_groups(struct scrape *scrape) {
    struct client_groups *groups = client_groups_create(scrape->context->conf);
    if (groups && client_groups_is_used(groups)) {
        workers_visit(scrape->context->workers, "", client_groups_add, groups);
    }
    if (groups) {
        client_groups_put(groups, scrape->out);
    }
    client_groups_destroy(groups);
}

void api_metrics(struct http_request *request, struct http_response *response) {
    static void (*const parts[])(struct scrape * scrape) = {
        api_metrics_put_info,         api_metrics_put_clients,  api_metrics_put_certificates,
        api_metrics_put_membership,   api_metrics_put_fleet,    api_metrics_put_redis,
        api_metrics_put_sinks,        api_metrics_put_stores,   api_metrics_put_buffers,
        api_metrics_put_publications, api_metrics_put_requests, api_metrics_put_groups,
        api_metrics_put_process};
    struct buffer out;
    buffer_init(&out);
    struct scrape scrape = {request->api, &request->api->context, &out};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        parts[i](&scrape);
    }
    exposition_metrics(&out);
    size_t len = out.len;
    char *text = buffer_take(&out);
    if (!text) {
        http_answer_json(response, 500, NULL);
        return;
    }
    http_answer_bytes(response, 200, EXPOSITION_TYPE, text, len);
}
