/* Compares the limits of the system with the settings. Each client needs a file and a local port.
 * Main thread, at the start. */
#include "base/config/system_limits.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include "base/telemetry/log.h"

#define FILES_OWN   128 /* Redis, DNS, epoll, event and log files, certificates being read */
#define FILES_PEERS 128 /* calls to other nodes, see cluster/peers/peer_calls.h */
#define PORTS_PATH  "/proc/sys/net/ipv4/ip_local_port_range"

int64_t system_limits_raise_files(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) {
        return INT64_MAX;
    }
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0 || getrlimit(RLIMIT_NOFILE, &files) != 0) {
        return INT64_MAX;
    }
    return files.rlim_cur == RLIM_INFINITY || files.rlim_cur > INT64_MAX ? INT64_MAX
                                                                         : (int64_t)files.rlim_cur;
}

int64_t system_limits_files_reserved(const struct conf *conf) {
    int64_t publications = conf->http_connections_max * 3 / 4; /* through other nodes */
    return FILES_OWN + 2 * conf->http_workers + FILES_PEERS + conf->http_connections_max +
           publications;
}

bool system_limits_fit_files(struct conf *conf, int64_t files_max) {
    if (conf->node_size <= files_max - system_limits_files_reserved(conf)) {
        return false;
    }
    if (conf->http_connections_max > files_max / 4) {
        conf->http_connections_max = files_max / 4;
    }
    int64_t left = files_max - system_limits_files_reserved(conf);
    conf->node_size = left < 0 ? 0 : left < conf->node_size ? left : conf->node_size;
    return true;
}

int64_t system_limits_port_count(void) {
    FILE *file = fopen(PORTS_PATH, "re");
    long long first = 0, last = -1;
    if (file && fscanf(file, "%lld %lld", &first, &last) != 2) {
        last = first - 1;
    }
    if (file) {
        fclose(file);
    }
    return last - first + 1;
}

static int64_t system_limits_source_count(const struct conf *conf) {
    int64_t count = 1;
    for (const char *at = conf->source_addresses; (at = strchr(at, ',')); at++) {
        count++;
    }
    return count;
}

static void system_limits_check_ports(const struct conf *conf) {
    int64_t ports = system_limits_port_count() * system_limits_source_count(conf);
    if (ports > 0 && ports < conf->node_size) {
        log_event(
            LOG_WARN, "few_local_ports", KI("ports", ports), KI("size", conf->node_size),
            KS("detail",
               "the local ports limit the clients that can connect to one address of a broker: "
               "widen net.ipv4.ip_local_port_range or set source_addresses"));
    }
}

enum err system_limits_check(struct conf *conf, char fault[CONF_FAULT_LEN]) {
    int64_t files_max = system_limits_raise_files();
    int64_t size = conf->node_size;
    int64_t needed = size + system_limits_files_reserved(conf);
    if (system_limits_fit_files(conf, files_max)) {
        log_event(
            LOG_WARN, "few_open_files", KI("limit", files_max), KI("needed", needed),
            KI("size_wanted", size), KI("size", conf->node_size),
            KS("detail",
               "this node accepts fewer clients than node_info.size: raise the hard limit of open "
               "files (LimitNOFILE= of the unit, ulimit -Hn)"));
    }
    if (size > 0 && conf->node_size == 0) {
        snprintf(
            fault, CONF_FAULT_LEN,
            "open files: the hard limit of %lld is too low for a single client; node_info.size "
            "%lld requires %lld: raise LimitNOFILE= of the unit, or ulimit -Hn",
            (long long)files_max, (long long)size, (long long)needed);
        return ERR_FULL;
    }
    system_limits_check_ports(conf);
    return ERR_OK;
}
