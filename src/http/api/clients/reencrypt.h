/* What POST /api/v1/clients:reencrypt has done. The thread of the job. */
#ifndef MQFLEET_HTTP_REENCRYPT_H
#define MQFLEET_HTTP_REENCRYPT_H

#include "base/err.h"
#include "http/api/api.h"

struct reencrypt_counts {
    json_int_t reencrypted, unchanged, failed;
    json_t *failures;
};

/* id: of a client, or "kind:name". */
void reencrypt_note_failure(struct reencrypt_counts *counts, const char *id, const char *detail);
/* Of the resources of the fleet, of which there are few: all at once. Otherwise than ERR_OK: Redis
 * does not answer, or memory ran out. */
enum err reencrypt_resources(const struct http_api *api,
                             struct reencrypt_counts *counts) MUST_CHECK;

#endif
