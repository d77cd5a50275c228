/* The address of a NATS server: nats://[USER:PASSWORD@]HOST[:PORT], tls:// over TLS. Pure. */
#ifndef MQFLEET_NATS_NATS_URL_H
#define MQFLEET_NATS_NATS_URL_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buffer.h"
#include "base/err.h"

#define NATS_HOST_LEN 256

struct nats_url {
    const char *text;         /* borrowed */
    size_t begin, end;        /* of the host in the text, with its brackets */
    char host[NATS_HOST_LEN]; /* without the brackets of an IPv6 address */
    bool tls;
};

/* ERR_ARGUMENT: it is not such an address of one server. */
enum err nats_url_parse(const char *text, struct nats_url *out) MUST_CHECK;
/* Appends the url with an IP address, as text, in the place of the host. */
void nats_url_append_with(const struct nats_url *url, const char *address, struct buffer *out);

#endif
