/* The document of a sink of the fleet: an object with the member `type` and the settings of that
 * type. The API accepts it, Redis stores it, and the nodes apply it. Any thread. */
#ifndef MQFLEET_RESOURCES_SINK_DOCUMENT_H
#define MQFLEET_RESOURCES_SINK_DOCUMENT_H

#include <stdbool.h>
#include <jansson.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "base/secrets/secret_box.h"
#include "mqtt/config/address_policy.h"
#include "sink/sink_type.h"

#define SINK_DOCUMENT_FAULT_LEN 512

/* pointer: RFC 6901; detail: what is wrong and what would be right. */
typedef void sink_document_report(void *context, const char *pointer, const char *detail);

/* What a node permits. policy NULL: every target. */
struct sink_document_rules {
    const struct conf *conf;
    const struct address_policy *policy;
};

/* Checks a document with decrypted secrets, and reports all faults. Returns the type; NULL: there
 * is a fault. */
const struct sink_type *sink_document_check(const json_t *document,
                                            const struct sink_document_rules *rules,
                                            sink_document_report *report, void *context);
/* The type of the document. NULL: this node does not know it; fault (SINK_FAULT_LEN) says why. */
const struct sink_type *sink_document_type(const json_t *document, char *fault);

/* A copy with masked secrets. NULL: out of memory. */
json_t *sink_document_masked(const json_t *document);
/* Replaces each masked secret by the one in `stored`, whose secrets are decrypted. Reports a fault
 * if `stored` has no such secret, or another target: a secret must not be sent elsewhere. */
void sink_document_keep_secrets(json_t *document, const json_t *stored,
                                sink_document_report *report, void *context);
/* Encrypts the secrets in place, for the sink of that name. Without keys they stay as they are. */
enum err sink_document_seal(json_t *document, const char *name, struct secret_box *box) MUST_CHECK;
/* Encrypts the secrets again, in place, with the current key. *changed: a secret was not encrypted,
 * or with another key. The same errors as sink_document_open. */
enum err sink_document_reseal(json_t *document, const char *name, struct secret_box *box,
                              bool *changed, char *fault) MUST_CHECK;
/* Decrypts the secrets in place. ERR_ARGUMENT: a secret cannot be decrypted; fault
 * (SINK_DOCUMENT_FAULT_LEN) says which. */
enum err sink_document_open(json_t *document, const char *name, struct secret_box *box,
                            char *fault) MUST_CHECK;
/* The settings without the type; new. */
json_t *sink_document_settings(const json_t *document);

#endif
