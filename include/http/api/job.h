/* Long work for a request that needs its own thread: a test connection, a profile, or a pass over
 * all clients of the fleet. The number of jobs is limited. Handler threads stay free for short
 * work.
 */
#ifndef MQFLEET_API_JOB_H
#define MQFLEET_API_JOB_H

#include <stdbool.h>
#include "http/server/pending.h"

/* Runs on the thread of the job; must return soon after http_request_is_cancelled becomes true.
 * data: from the plan. The request waits meanwhile, and may be read. */
typedef void http_job_work(const struct http_request *request, void *data);
typedef void http_job_then(struct http_request *request, struct http_response *response,
                           void *data);

struct http_job_plan {
    http_job_work *work;
    http_job_then *then; /* answers */
    void *data;          /* owned, even if the job does not start */
    void (*free_data)(void *data);
};

/* Called by a handler. If there are too many jobs, answers 503. */
void http_job_start(struct http_request *request, struct http_response *response,
                    const struct http_job_plan *plan);

#endif
