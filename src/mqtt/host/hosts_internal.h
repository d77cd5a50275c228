/* Inside of the facade of all hosts. Only hosts*.c include this. */
#ifndef MQFLEET_MQTT_HOST_HOSTS_INTERNAL_H
#define MQFLEET_MQTT_HOST_HOSTS_INTERNAL_H

#include "mqtt/host.h"
#include "mqtt/hosts.h"

struct hosts {
    const struct conf *conf;
    struct hosts_owner owner;
    struct resolver *resolver;
    struct address_policy *policy;
    struct good_addresses *good;
    struct incidents *incidents;
    struct publish_quota *quota;
    size_t count;
    struct host **all;

    pthread_mutex_t lock; /* guards the rest */
    char *incarnation;    /* accepted; NULL: none */
    uint64_t generation;  /* of what is started now */
};

/* The one that has, or would have, the client. */
struct host *hosts_host_of(const struct hosts *hosts, const char *id);
/* NULL: unknown. host->lock is held, and the client good for as long. */
struct client *hosts_find_locked(struct host *host, const char *id);

/* NULL: out of memory. */
struct host_command *hosts_command_create(enum host_command_kind kind, const char *id);
/* Frees the command when the host does not take it. */
enum err hosts_push(struct host *host, struct host_command *command) MUST_CHECK;

struct publications_query;
/* Hands it to the client's host. ERR_OK: the host answers it, and lets go of it. */
enum err hosts_push_query(struct hosts *hosts, const char *id,
                          struct publications_query *query) MUST_CHECK;

#endif
