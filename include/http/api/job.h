/* Work for a request that lasts and keeps a thread: a trial connection, a profile, a pass over the
 * whole fleet's clients. It gets a thread for as long as it lasts, and there are only a few at
 * once; workers stay free for what is short. */
#ifndef MQFLEET_API_JOB_H
#define MQFLEET_API_JOB_H

#include <stdbool.h>
#include "http/server/pending.h"

/* On the job's thread; must return soon after http_request_is_cancelled. data: the plan's. The
 * request waits meanwhile and may be read. */
typedef void http_job_work(const struct http_request *request, void *data);
typedef void http_job_then(struct http_request *request, struct http_response *response,
                           void *data);

struct http_job_plan {
    http_job_work *work;
    http_job_then *then; /* answers */
    void *data;          /* owned, in any case */
    void (*free_data)(void *data);
};

/* From a handler. Too many: answered with 503. */
void http_job_start(struct http_request *request, struct http_response *response,
                    const struct http_job_plan *plan);

#endif
