/* Owns the parameters of connections: those that a url may have, and those that are fixed,
 * so that libpq reads no files. */
#include "postgres_target.h"

#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <unistd.h>

#define NOWHERE         "/nonexistent" /* in place of files in the home directory */
#define SYSTEM_CA       "/etc/ssl/certs/ca-certificates.crt"
#define LIBPQ_16        160000 /* the first that knows sslrootcert=system */
#define TARGET_TEXT_MAX 1024
#define SERVER_LISTS    3 /* host, hostaddr, port */

const struct sink_field postgres_fields[] = {
    {.name = "url",
     .kind = SINK_FIELD_URL,
     .required = true,
     .description = "address of the database, postgresql://user@host:5432/database"},
    {.name = "password",
     .kind = SINK_FIELD_SECRET,
     .description = "password of the user, unless it is in the url"},
    {.name = "tls_ca",
     .kind = SINK_FIELD_TEXT,
     .description = "CA certificates as PEM text; empty: those of the system"},
    {.name = "table",
     .kind = SINK_FIELD_TEXT,
     .required = true,
     .description = "table or schema.table, spelled as in the catalog"},
    {.name = "columns",
     .kind = SINK_FIELD_MAP,
     .description = "template of the value of each column; empty: id, client_id, topic, payload, "
                    "qos, retain, received_at and message_id"},
    {.name = "missing",
     .kind = SINK_FIELD_CHOICE,
     .text = "reject",
     .choices = "reject|null",
     .description = "what happens to a message that lacks a value for a column"},
    {.name = "on_conflict",
     .kind = SINK_FIELD_CHOICE,
     .text = "error",
     .choices = "error|nothing",
     .description =
         "what happens to a row whose key exists: the message is rejected, or accepted without a "
         "new row"},
    {.name = "timeout_ms",
     .kind = SINK_FIELD_INTEGER,
     .number = 10000,
     .min = 500,
     .max = 600000,
     .unit = "ms",
     .description = "limit for connecting, and for each statement"},
    {0}};

/* ---- the url --------------------------------------------------------------------------------- */

/* The parameters that a url may have. Others name files, services or limits of the sink. choices
 * NULL: any value. */
static const struct {
    const char *name, *choices;
} parameters[] = {
    {"host", NULL},
    {"port", NULL},
    {"user", NULL},
    {"password", NULL},
    {"dbname", NULL},
    {"application_name", NULL},
    {"connect_timeout", NULL},
    {"sslmode", "disable|allow|prefer|require|verify-ca|verify-full"},
    {"sslrootcert", "system"},
    {"target_session_attrs", "any|read-write|primary"},
    {"channel_binding", "disable|prefer|require"},
};

static bool target_is_choice(const char *choices, const char *value) {
    size_t len = strlen(value);
    for (const char *at = choices; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
        if (strcspn(at, "|") == len && strncmp(at, value, len) == 0) {
            return true;
        }
    }
    return false;
}

static bool target_check_option(const PQconninfoOption *option, char *fault) {
    for (size_t i = 0; i < sizeof parameters / sizeof parameters[0]; i++) {
        if (strcmp(parameters[i].name, option->keyword) != 0) {
            continue;
        }
        if (parameters[i].choices && !target_is_choice(parameters[i].choices, option->val)) {
            snprintf(fault, SINK_FAULT_LEN, "url: %s must be one of %s", option->keyword,
                     parameters[i].choices);
            return false;
        }
        return true;
    }
    snprintf(fault, SINK_FAULT_LEN, "url must not have the parameter %.40s", option->keyword);
    return false;
}

static const char *target_option(const struct postgres_target *target, const char *keyword) {
    for (const PQconninfoOption *option = target->options; option->keyword; option++) {
        if (strcmp(option->keyword, keyword) == 0) {
            return option->val ? option->val : "";
        }
    }
    return "";
}

static bool target_check_hosts(const char *hosts, char *fault) {
    bool fine = *hosts != '\0' && *hosts != ',';
    for (const char *at = hosts; *at; at++) {
        bool first = at == hosts || at[-1] == ',';
        fine = fine && !(first && (*at == '/' || *at == '@' || *at == ',')); /* local sockets */
    }
    if (!fine) {
        snprintf(fault, SINK_FAULT_LEN, "url must name the hosts, by name or address");
    }
    return fine;
}

/* libpq quotes parts of the url in its errors, which may be those of a password. */
static enum err target_parse(struct postgres_target *target, const char *url, char *fault) {
    bool scheme = strncmp(url, "postgresql://", 13) == 0 || strncmp(url, "postgres://", 11) == 0;
    target->options = scheme ? PQconninfoParse(url, NULL) : NULL;
    if (!target->options) {
        snprintf(fault, SINK_FAULT_LEN,
                 "url must be postgresql://USER@HOST:PORT/DATABASE, with parameters as in "
                 "?sslmode=verify-full");
        return ERR_ARGUMENT;
    }
    for (const PQconninfoOption *option = target->options; option->keyword; option++) {
        if (option->val && !target_check_option(option, fault)) {
            return ERR_ARGUMENT;
        }
    }
    return target_check_hosts(target_option(target, "host"), fault) ? ERR_OK : ERR_ARGUMENT;
}

/* ---- the parameters of a connection ---------------------------------------------------------- */

static void target_add(struct postgres_target *target, const char *keyword, const char *value) {
    if (*value != '\0' && target->count < POSTGRES_PARAMETERS_MAX) {
        target->keywords[target->count] = keyword;
        target->values[target->count++] = value;
    }
}

/* libpq reads CA certificates only from a file. ERR_MEMORY. */
static enum err target_store_ca(struct postgres_target *target, const char *pem) {
    target->ca_fd = memfd_create("tls_ca", MFD_CLOEXEC);
    size_t len = strlen(pem);
    if (target->ca_fd < 0 || write(target->ca_fd, pem, len) != (ssize_t)len) {
        return ERR_MEMORY;
    }
    snprintf(target->ca_path, sizeof target->ca_path, "/proc/self/fd/%d", target->ca_fd);
    return ERR_OK;
}

static enum err target_add_tls(struct postgres_target *target, const char *ca, char *fault) {
    const char *mode = target_option(target, "sslmode");
    bool full = strcmp(mode, "verify-full") == 0;
    bool verifies = full || strcmp(mode, "verify-ca") == 0;
    if (*ca != '\0' && !verifies) {
        snprintf(fault, SINK_FAULT_LEN, "tls_ca needs sslmode=verify-full in the url");
        return ERR_ARGUMENT;
    }
    if (*ca == '\0' && !full && (verifies || *target_option(target, "sslrootcert"))) {
        snprintf(fault, SINK_FAULT_LEN,
                 "url: the CA certificates of the system need sslmode=verify-full");
        return ERR_ARGUMENT;
    }
    target_add(target, "sslmode", mode);
    if (*ca == '\0') {
        const char *system = PQlibVersion() >= LIBPQ_16 ? "system" : SYSTEM_CA;
        target_add(target, "sslrootcert", full ? system : NOWHERE);
        return ERR_OK;
    }
    enum err err = target_store_ca(target, ca);
    target_add(target, "sslrootcert", target->ca_path);
    return err;
}

static enum err target_add_password(struct postgres_target *target, const char *password,
                                    char *fault) {
    const char *in_url = target_option(target, "password");
    if (*password && *in_url) {
        snprintf(fault, SINK_FAULT_LEN, "password must not be given twice; the url has one, too");
        return ERR_ARGUMENT;
    }
    target_add(target, "password", *password ? password : in_url);
    return ERR_OK;
}

/* Nothing of the environment or the home directory, as far as libpq lets one choose. */
static void target_add_fixed(struct postgres_target *target) {
    target_add(target, "client_encoding", "UTF8");
    target_add(target, "gssencmode", "disable");
    target_add(target, "passfile", NOWHERE);
    target_add(target, "sslcert", NOWHERE);
    target_add(target, "sslkey", NOWHERE);
    target_add(target, "sslcrl", NOWHERE);
    target_add(target, "tcp_user_timeout", target->tcp_timeout);
}

static void target_add_server(struct postgres_target *target) {
    const char *name = target_option(target, "application_name");
    snprintf(target->application_name, sizeof target->application_name, "mqfleet %.50s",
             target->environment->node);
    target->server_index = target->count;
    target_add(target, "host", "-"); /* these three are replaced by postgres_target_resolve */
    target_add(target, "hostaddr", "-");
    target_add(target, "port", "-");
    target_add(target, "user", target_option(target, "user"));
    target_add(target, "dbname", target_option(target, "dbname"));
    target_add(target, "application_name", *name ? name : target->application_name);
    target_add(target, "target_session_attrs", target_option(target, "target_session_attrs"));
    target_add(target, "channel_binding", target_option(target, "channel_binding"));
}

static void target_set_limits(struct postgres_target *target, const json_t *settings) {
    long limit_s = strtol(target_option(target, "connect_timeout"), NULL, 10);
    target->timeout_ms = sink_settings_integer(settings, "timeout_ms");
    target->connect_timeout_ms = target->timeout_ms;
    if (limit_s > 0 && limit_s < target->timeout_ms / 1000) {
        target->connect_timeout_ms = limit_s * 1000;
    }
    snprintf(target->tcp_timeout, sizeof target->tcp_timeout, "%lld",
             (long long)target->timeout_ms);
}

enum err postgres_target_init(struct postgres_target *target, const json_t *settings,
                              const struct sink_environment *environment, char *fault) {
    *target = (struct postgres_target){.ca_fd = -1, .environment = environment};
    enum err err = target_parse(target, sink_settings_text(settings, "url"), fault);
    if (err == ERR_OK) {
        target->hosts = target_option(target, "host");
        target->ports = target_option(target, "port");
        target_set_limits(target, settings);
        target_add_fixed(target);
        target_add_server(target);
        err = target_add_password(target, sink_settings_text(settings, "password"), fault);
    }
    return err == ERR_OK ? target_add_tls(target, sink_settings_text(settings, "tls_ca"), fault)
                         : err;
}

void postgres_target_fini(struct postgres_target *target) {
    PQconninfoFree(target->options);
    sink_lookup_release(target->lookup);
    for (size_t i = 0; i < SERVER_LISTS; i++) {
        buffer_fini(&target->server[i]);
    }
    if (target->ca_fd >= 0) {
        close(target->ca_fd);
    }
}

/* ---- addresses ------------------------------------------------------------------------------- */

/* The element of a list, "a,b"; a list of one is for all. */
static const char *target_element(const char *list, size_t index, int *len) {
    for (; index > 0 && strchr(list, ','); index--) {
        list = strchr(list, ',') + 1;
    }
    *len = (int)strcspn(list, ",");
    return list;
}

static bool target_is_allowed(const struct postgres_target *target,
                              const struct sink_address *address, const char **why) {
    char host[TARGET_TEXT_MAX];
    int len;
    const char *at = target_element(target->hosts, address->host, &len);
    snprintf(host, sizeof host, "%.*s", len, at);
    return sink_lookup_allows(target->environment, host, address, why);
}

static void target_append_address(struct postgres_target *target,
                                  const struct sink_address *address) {
    int host_len, port_len;
    const char *comma = target->server[0].len > 0 ? "," : "";
    const char *host = target_element(target->hosts, address->host, &host_len);
    const char *port = target_element(target->ports, address->host, &port_len);
    buffer_printf(&target->server[0], "%s%.*s", comma, host_len, host);
    buffer_append_str(&target->server[1], comma);
    sink_lookup_append_numeric(address, &target->server[1]);
    buffer_printf(&target->server[2], "%s%.*s", comma, port_len > 0 ? port_len : 4,
                  port_len > 0 ? port : "5432");
}

/* Those that are allowed; *why: of one that is not. */
static void target_append_addresses(struct postgres_target *target,
                                    const struct sink_address *addresses, size_t count,
                                    const char **why) {
    for (size_t i = 0; i < SERVER_LISTS; i++) {
        buffer_clear(&target->server[i]);
    }
    for (size_t i = 0; i < count; i++) {
        const struct sink_address *address = &addresses[(target->turn + i) % count];
        if (target_is_allowed(target, address, why)) {
            target_append_address(target, address);
        }
    }
    for (size_t i = 0; i < SERVER_LISTS; i++) {
        target->values[target->server_index + i] = target->server[i].data;
    }
}

static enum err target_take_addresses(struct postgres_target *target, char *fault) {
    const struct sink_address *addresses;
    const char *why = "";
    size_t count = sink_lookup_addresses(target->lookup, &addresses);
    target_append_addresses(target, addresses, count, &why);
    if (target->server[0].failed || target->server[1].failed || target->server[2].failed) {
        snprintf(fault, SINK_FAULT_LEN, "%s", err_name(ERR_MEMORY));
        return ERR_MEMORY;
    }
    if (target->server[0].len == 0) {
        snprintf(fault, SINK_FAULT_LEN, "no address of %.60s is allowed: %.80s", target->hosts,
                 why);
        return ERR_REFUSED;
    }
    return ERR_OK;
}

enum err postgres_target_resolve(struct postgres_target *target, int64_t deadline_ms,
                                 const struct sink_batch *batch, char *fault) {
    enum err err = sink_lookup_resolve(&target->lookup, target->hosts, deadline_ms, batch, fault);
    if (err != ERR_OK) {
        return err;
    }
    err = target_take_addresses(target, fault);
    sink_lookup_release(target->lookup);
    target->lookup = NULL;
    return err;
}
