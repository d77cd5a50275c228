/* The document of a sink of the fleet: an object with the member `type` and the settings of that
 * type. What the API accepts, what Redis stores, and what a node applies. Any thread. */
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

/* Reports all faults; secrets must be open. NULL: there is one; else the type. */
const struct sink_type *sink_document_check(const json_t *document,
                                            const struct sink_document_rules *rules,
                                            sink_document_report *report, void *context);
/* NULL: it has no type that this node knows; fault (SINK_FAULT_LEN) says why. */
const struct sink_type *sink_document_type(const json_t *document, char *fault);

/* Of a copy; NULL: out of memory. */
json_t *sink_document_masked(const json_t *document);
/* Where a secret is masked, takes that of `stored`, whose secrets are open. A mask without a secret
 * to take is a fault, and so is one if the target differs: a secret must not be sent elsewhere. */
void sink_document_keep_secrets(json_t *document, const json_t *stored,
                                sink_document_report *report, void *context);
/* In place, for the sink of that name. Without keys secrets stay as they are. */
enum err sink_document_seal(json_t *document, const char *name, struct secret_box *box) MUST_CHECK;
/* In place, with the key that encrypts now. *changed: a secret was encrypted with another key, or
 * not at all. Errors as of sink_document_open. */
enum err sink_document_reseal(json_t *document, const char *name, struct secret_box *box,
                              bool *changed, char *fault) MUST_CHECK;
/* In place. ERR_ARGUMENT: fault (SINK_DOCUMENT_FAULT_LEN) says which secret. */
enum err sink_document_open(json_t *document, const char *name, struct secret_box *box,
                            char *fault) MUST_CHECK;
/* The settings without the type; new. */
json_t *sink_document_settings(const json_t *document);

#endif
