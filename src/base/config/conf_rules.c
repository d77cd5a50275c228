/* Owns the rules between settings and the computed values. Main thread, before any other. */
#include "conf_loader.h"

#include <arpa/inet.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/text.h"

#define HOSTNAME_LEN 65 /* Linux's maximum, and the NUL */

/* The origin of whichever of the two settings was set, the first preferred. */
static const char *rules_origin_of(const struct conf_loader *loader, enum conf_index first,
                                   enum conf_index second) {
    return loader->origins[first][0] != '\0' ? loader->origins[first] : loader->origins[second];
}

struct conf_order {
    enum conf_index larger;
    enum conf_index smaller;
    bool equal_allowed;
};

static const struct conf_order ORDERS[] = {
    {CONF_heartbeat_ttl_ms, CONF_heartbeat_ms, false},
    {CONF_reconnect_max_ms, CONF_reconnect_min_ms, true},
    {CONF_conflict_max_ms, CONF_conflict_min_ms, true},
};

static enum err rules_check_order(struct conf_loader *loader) {
    for (size_t i = 0; i < sizeof(ORDERS) / sizeof(ORDERS[0]); i++) {
        const struct conf_order *order = &ORDERS[i];
        const struct conf_setting *larger = &conf_settings[order->larger];
        const struct conf_setting *smaller = &conf_settings[order->smaller];
        int64_t more = *conf_int_field(loader->conf, larger);
        int64_t less = *conf_int_field(loader->conf, smaller);
        if (more < less || (more == less && !order->equal_allowed)) {
            return conf_fault(loader, rules_origin_of(loader, order->larger, order->smaller),
                              "%s %lld: must be %s %s, which is %lld", larger->name,
                              (long long)more, order->equal_allowed ? "at least" : "more than",
                              smaller->name, (long long)less);
        }
    }
    return ERR_OK;
}

static enum err rules_check_name(struct conf_loader *loader, enum conf_index index) {
    const char *name = *conf_text_field(loader->conf, &conf_settings[index]);
    if (strlen(name) <= CONF_NAME_MAX) {
        return ERR_OK; /* conf_assign has already checked that it is text */
    }
    return conf_fault(loader, loader->origins[index], "%s %.80s...: must be at most %d bytes",
                      conf_settings[index].name, name, CONF_NAME_MAX);
}

static enum err rules_check_names(struct conf_loader *loader) {
    static const enum conf_index NAMES[] = {CONF_node_name, CONF_fleet_name, CONF_key_prefix};
    enum err err = ERR_OK;
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0] && err == ERR_OK; i++) {
        err = rules_check_name(loader, NAMES[i]);
    }
    return err;
}

static enum err rules_check_not_empty(struct conf_loader *loader) {
    static const enum conf_index FILLED[] = {CONF_node_host, CONF_sink_key};
    for (size_t i = 0; i < sizeof(FILLED) / sizeof(FILLED[0]); i++) {
        const struct conf_setting *setting = &conf_settings[FILLED[i]];
        if ((*conf_text_field(loader->conf, setting))[0] == '\0') {
            return conf_fault(loader, loader->origins[FILLED[i]], "%s \"\": must not be empty",
                              setting->name);
        }
    }
    return ERR_OK;
}

#define REDIS_HOST        "(\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?"
#define REDIS_CREDENTIALS "([^/]*:[^/]*@)?"
#define REDIS_HOSTS       REDIS_HOST "(," REDIS_HOST ")*"

/* A coarse check that keeps the credentials recognizable, so that they can be omitted in output. */
static const char *const REDIS_URLS[] = {
    "^rediss?://" REDIS_CREDENTIALS REDIS_HOSTS "(/[0-9]*)?$",
    "^rediss?\\+sentinel://" REDIS_CREDENTIALS REDIS_HOSTS "/[A-Za-z0-9._-]+(/[0-9]*)?$",
};

static bool rules_matches_regex(const char *text, const char *pattern) {
    regex_t compiled;
    if (regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB) != 0) {
        return false;
    }
    bool matching = regexec(&compiled, text, 0, NULL, 0) == 0;
    regfree(&compiled);
    return matching;
}

static bool rules_is_redis_url(const char *url) {
    bool is_unix = strncmp(url, "unix:", strlen("unix:")) == 0 && url[strlen("unix:")] != '\0';
    return is_unix || rules_matches_regex(url, REDIS_URLS[0]) ||
           rules_matches_regex(url, REDIS_URLS[1]);
}

static enum err rules_check_redis_urls(struct conf_loader *loader) {
    static const enum conf_index URLS[] = {CONF_redis_url, CONF_sink_url};
    for (size_t i = 0; i < sizeof(URLS) / sizeof(URLS[0]); i++) {
        const struct conf_setting *setting = &conf_settings[URLS[i]];
        const char *url = *conf_text_field(loader->conf, setting);
        bool embedded = URLS[i] == CONF_redis_url;
        if (url[0] != '\0' && !rules_is_redis_url(url) &&
            !(embedded && strcmp(url, "embedded") == 0)) {
            return conf_fault(loader, loader->origins[URLS[i]],
                              "%s: must be %sredis://[user:pass@]host:port/db, "
                              "redis+sentinel://[user:pass@]host:port,.../master/db or unix:path",
                              setting->name, embedded ? "embedded, " : "");
        }
    }
    return ERR_OK;
}

/* A URL is complete: the settings of its parts beside it would have no effect. */
static enum err rules_check_redis_parts(struct conf_loader *loader) {
    static const enum conf_index PARTS[] = {CONF_redis_host, CONF_redis_username,
                                            CONF_redis_password};
    const struct conf *conf = loader->conf;
    for (size_t i = 0; conf->redis_url[0] != '\0' && i < sizeof(PARTS) / sizeof(PARTS[0]); i++) {
        if ((*conf_text_field(conf, &conf_settings[PARTS[i]]))[0] != '\0') {
            return conf_fault(loader, rules_origin_of(loader, PARTS[i], CONF_redis_url),
                              "%s and redis_config.url: only one of them may be set",
                              conf_settings[PARTS[i]].name);
        }
    }
    if (conf->redis_host[strcspn(conf->redis_host, "/@?#[]% ")] != '\0') {
        return conf_fault(loader, loader->origins[CONF_redis_host],
                          "redis_config.host %.80s: must be a host name or an IP address",
                          conf->redis_host);
    }
    return ERR_OK;
}

static enum err rules_check_redis_tls(struct conf_loader *loader) {
    const struct conf *conf = loader->conf;
    if ((conf->redis_tls_cert_file[0] != '\0') == (conf->redis_tls_key_file[0] != '\0')) {
        return ERR_OK;
    }
    return conf_fault(loader,
                      rules_origin_of(loader, CONF_redis_tls_cert_file, CONF_redis_tls_key_file),
                      "redis_config.tls_cert_file and redis_config.tls_key_file: both or none must "
                      "be set");
}

static bool rules_is_address(const char *text) {
    struct in6_addr address;
    return inet_pton(AF_INET, text, &address) == 1 || inet_pton(AF_INET6, text, &address) == 1;
}

static bool rules_is_loopback(const char *address) {
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, address, &v4) == 1) {
        return (ntohl(v4.s_addr) >> 24) == 127;
    }
    return inet_pton(AF_INET6, address, &v6) == 1 &&
           (IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127));
}

static enum err rules_check_listen_address(struct conf_loader *loader, enum conf_index index) {
    const char *name = conf_settings[index].name;
    const char *listen = *conf_text_field(loader->conf, &conf_settings[index]);
    const char *origin = loader->origins[index];
    if (!rules_is_address(listen)) {
        return conf_fault(loader, origin,
                          "%s %.80s: must be an IP address, such as 127.0.0.1 or ::1", name,
                          listen[0] != '\0' ? listen : "\"\"");
    }
    if (rules_is_loopback(listen) || loader->conf->http_insecure ||
        loader->conf->http_tokens_file[0] != '\0') {
        return ERR_OK;
    }
    return conf_fault(loader, origin,
                      "%s %s is not a loopback address and callers are not authenticated: set "
                      "http.tokens_file, or listen on 127.0.0.1 or ::1, or set http.insecure to "
                      "true",
                      name, listen);
}

static enum err rules_check_listen(struct conf_loader *loader) {
    enum err err = rules_check_listen_address(loader, CONF_http_listen);
    return err == ERR_OK ? rules_check_listen_address(loader, CONF_ops_listen) : err;
}

static enum err rules_check_tls(struct conf_loader *loader) {
    const struct conf *conf = loader->conf;
    bool certificate = conf->http_tls_cert_file[0] != '\0';
    if (certificate == (conf->http_tls_key_file[0] != '\0')) {
        return ERR_OK;
    }
    return conf_fault(loader,
                      rules_origin_of(loader, CONF_http_tls_cert_file, CONF_http_tls_key_file),
                      "http.tls_cert_file and http.tls_key_file: both or none must be set");
}

/* Otherwise each node would refuse requests that other nodes forward for callers with a token. */
static enum err rules_check_fleet_secret(struct conf_loader *loader) {
    const struct conf *conf = loader->conf;
    bool alone = strcmp(conf->redis_url, "embedded") == 0 ||
                 (conf->redis_url[0] == '\0' && conf->redis_host[0] == '\0');
    if (conf->http_tokens_file[0] == '\0' || conf->fleet_secret_file[0] != '\0' || alone) {
        return ERR_OK;
    }
    return conf_fault(
        loader, loader->origins[CONF_http_tokens_file],
        "http.tokens_file: requires fleet.secret_file too, with which the nodes of the "
        "fleet authenticate each other");
}

static bool rules_is_origin(char *entry) {
    const char *authority = strstr(entry, "://");
    bool scheme = strncmp(entry, "http://", 7) == 0 || strncmp(entry, "https://", 8) == 0;
    return scheme && authority[3] != '\0' && authority[3 + strcspn(authority + 3, "/?#@*")] == '\0';
}

static enum err rules_check_sink(struct conf_loader *loader) {
    const struct conf *conf = loader->conf;
    if (strcmp(conf->sink_redis_trim, "bytes") == 0 && conf->sink_redis_stream_bytes_max == 0) {
        return conf_fault(
            loader, loader->origins[CONF_sink_redis_trim],
            "sink.redis_trim bytes: requires sink.redis_stream_bytes_max, which is 0");
    }
    if (strcmp(conf->sink_type, "file") != 0 || conf->sink_path[0] != '\0') {
        return ERR_OK;
    }
    return conf_fault(loader, loader->origins[CONF_sink_type],
                      "sink.type file: requires sink.path, which is empty");
}

static enum err rules_check_engine(struct conf_loader *loader) {
    const struct conf *conf = loader->conf;
    if (strcmp(conf->engine, "reactor") == 0 || conf->source_addresses[0] == '\0') {
        return ERR_OK;
    }
    return conf_fault(loader, loader->origins[CONF_source_addresses],
                      "source_addresses: requires engine reactor, not %s", conf->engine);
}

/* address/bits, where the bits are decimal digits within the length of the address. */
static bool rules_is_network(char *entry) {
    char *slash = strchr(entry, '/');
    if (!slash) {
        return false;
    }
    size_t digits = strspn(slash + 1, "0123456789");
    long bits = strtol(slash + 1, NULL, 10);
    *slash = '\0';
    bool is_v6 = strchr(entry, ':') != NULL;
    bool valid = rules_is_address(entry) && digits >= 1 && digits <= 3 &&
                 slash[1 + digits] == '\0' && bits <= (is_v6 ? 128 : 32);
    *slash = '/';
    return valid;
}

static bool rules_is_host_pattern(const char *entry) {
    static const char ALLOWED[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.*";
    /* 10.0.0.256 is a mistyped address, not a host. */
    bool numeric = entry[strspn(entry, "0123456789.")] == '\0';
    return entry[strspn(entry, ALLOWED)] == '\0' && !numeric;
}

static bool rules_is_broker(char *entry) {
    return rules_is_address(entry) || rules_is_network(entry) || rules_is_host_pattern(entry);
}

static bool rules_is_source(char *entry) {
    return rules_is_address(entry);
}

static bool rules_is_folder(char *entry) {
    return entry[0] == '/';
}

struct conf_list_rule {
    enum conf_index index;
    bool (*fits)(char *entry);
    const char *what;
};

static enum err rules_check_list(struct conf_loader *loader, const struct conf_list_rule *rule) {
    enum conf_index index = rule->index;
    char *list = text_dup(*conf_text_field(loader->conf, &conf_settings[index]));
    if (!list) {
        return conf_no_memory(loader);
    }
    enum err err = ERR_OK;
    char *rest = list;
    for (char *entry = strsep(&rest, ","); entry && err == ERR_OK; entry = strsep(&rest, ",")) {
        if (entry[0] != '\0' && !rule->fits(entry)) {
            err = conf_fault(loader, loader->origins[index], "%s %.80s: must be %s",
                             conf_settings[index].name, entry, rule->what);
        }
    }
    free(list);
    return err;
}

static bool rules_is_label(char *entry) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    size_t len = strlen(entry);
    return len <= 63 && strspn(entry, allowed) == len;
}

static enum err rules_check_lists(struct conf_loader *loader) {
    static const char BROKER[] =
        "a host pattern (letters digits - . *), an IP address or a network such as 10.0.0.0/8";
    static const struct conf_list_rule RULES[] = {
        {CONF_broker_allow, rules_is_broker, BROKER},
        {CONF_broker_deny, rules_is_broker, BROKER},
        {CONF_source_addresses, rules_is_source, "an IP address"},
        {CONF_secrets_files_allow, rules_is_folder, "the absolute path of a folder"},
        {CONF_sink_files_allow, rules_is_folder, "the absolute path of a folder"},
        {CONF_metrics_by_label, rules_is_label, "the name of a label"},
        {CONF_http_cors_origins, rules_is_origin,
         "an origin such as https://console.example.org, without path"},
    };
    enum err err = ERR_OK;
    for (size_t i = 0; i < sizeof(RULES) / sizeof(RULES[0]) && err == ERR_OK; i++) {
        err = rules_check_list(loader, &RULES[i]);
    }
    return err;
}

typedef enum err rules_step(struct conf_loader *loader);

enum err conf_check_rules(struct conf_loader *loader) {
    static rules_step *const RULES[] = {
        rules_check_order,      rules_check_names,       rules_check_not_empty,
        rules_check_redis_urls, rules_check_redis_parts, rules_check_redis_tls,
        rules_check_listen,     rules_check_tls,         rules_check_fleet_secret,
        rules_check_sink,       rules_check_lists,       rules_check_engine,
    };
    enum err err = ERR_OK;
    for (size_t i = 0; i < sizeof(RULES) / sizeof(RULES[0]) && err == ERR_OK; i++) {
        err = conf_collect_fault(loader, RULES[i](loader));
    }
    return conf_collected_faults(loader, err);
}

static enum err rules_set_computed(struct conf_loader *loader, char **field, struct buffer *text) {
    char *value = buffer_take(text);
    if (!value) {
        return conf_no_memory(loader);
    }
    free(*field);
    *field = value;
    return ERR_OK;
}

static enum err rules_compute_node_name(struct conf_loader *loader) {
    struct conf *conf = loader->conf;
    if (conf->node_name[0] != '\0') {
        return ERR_OK;
    }
    char hostname[HOSTNAME_LEN] = "";
    if (gethostname(hostname, sizeof(hostname) - 1) != 0 || hostname[0] == '\0' ||
        !conf_is_text(hostname, strlen(hostname))) {
        return conf_fault(loader, NULL,
                          "node_info.name: the host name of this machine cannot be used; set "
                          "node_info.name");
    }
    struct buffer name;
    buffer_init(&name);
    buffer_printf(&name, "%s-%lld", hostname, (long long)conf->node_port);
    return rules_set_computed(loader, &conf->node_name, &name);
}

/* RFC 3986 section 2.3: characters that are not unreserved are written as %XX. */
static void rules_append_percent_encoded(struct buffer *out, const char *text) {
    static const char UNRESERVED[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (const char *at = text; *at != '\0'; at++) {
        if (strchr(UNRESERVED, *at)) {
            buffer_append(out, at, 1);
        } else {
            buffer_printf(out, "%%%02X", (unsigned)(unsigned char)*at);
        }
    }
}

static enum err rules_compute_redis_url(struct conf_loader *loader) {
    struct conf *conf = loader->conf;
    if (conf->redis_url[0] != '\0') {
        return ERR_OK;
    }
    struct buffer url;
    buffer_init(&url);
    if (conf->redis_host[0] == '\0') {
        buffer_append_str(&url, "embedded");
        return rules_set_computed(loader, &conf->redis_url, &url);
    }
    bool is_v6 = strchr(conf->redis_host, ':') != NULL;
    buffer_append_str(&url, "redis://");
    if (conf->redis_username[0] != '\0' || conf->redis_password[0] != '\0') {
        rules_append_percent_encoded(&url, conf->redis_username);
        buffer_append_str(&url, ":");
        rules_append_percent_encoded(&url, conf->redis_password);
        buffer_append_str(&url, "@");
    }
    buffer_printf(&url, "%s%s%s:%lld/%lld", is_v6 ? "[" : "", conf->redis_host, is_v6 ? "]" : "",
                  (long long)conf->redis_port, (long long)conf->redis_db);
    return rules_set_computed(loader, &conf->redis_url, &url);
}

/* Writes the name of the node as one path component: neither hidden nor . or .. */
static void rules_append_path_component(struct buffer *out, const char *name) {
    for (const char *at = name; *at != '\0'; at++) {
        bool replaced = *at == '/' || (at == name && *at == '.');
        buffer_append(out, replaced ? "_" : at, 1);
    }
}

/* Names from systemd.exec(5), "STATE_DIRECTORY" (the first of several), and the XDG Base Directory
 * Specification, which ignores relative paths. */
static enum err rules_compute_state_dir(struct conf_loader *loader) {
    struct conf *conf = loader->conf;
    if (conf->state_dir[0] != '\0') {
        return ERR_OK;
    }
    const char *systemd = getenv("STATE_DIRECTORY");
    const char *xdg = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    struct buffer path;
    buffer_init(&path);
    if (systemd && systemd[0] == '/') {
        buffer_append(&path, systemd, strcspn(systemd, ":"));
        return rules_set_computed(loader, &conf->state_dir, &path);
    }
    if (xdg && xdg[0] == '/') {
        buffer_printf(&path, "%s/mqfleet/", xdg);
    } else if (home && home[0] == '/') {
        buffer_printf(&path, "%s/.local/state/mqfleet/", home);
    } else if (strcmp(conf->redis_url, "embedded") == 0) {
        return conf_fault(loader, NULL,
                          "state_dir: must be set for the embedded Redis, because none of "
                          "STATE_DIRECTORY, XDG_STATE_HOME and HOME is");
    } else {
        return ERR_OK; /* only the embedded Redis needs a folder */
    }
    rules_append_path_component(&path, conf->node_name);
    return rules_set_computed(loader, &conf->state_dir, &path);
}

enum err conf_compute(struct conf_loader *loader) {
    static rules_step *const STEPS[] = {rules_compute_node_name, rules_compute_redis_url,
                                        rules_compute_state_dir};
    enum err err = ERR_OK;
    for (size_t i = 0; i < sizeof(STEPS) / sizeof(STEPS[0]) && err == ERR_OK; i++) {
        err = STEPS[i](loader);
    }
    return err;
}
