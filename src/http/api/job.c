/* Owns the threads of jobs and their number. Started by handler threads. */
#include "http/api/job.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include "base/telemetry/metrics.h"
#include "http/server/problem.h"

#define JOBS_RUNNING_MAX 8 /* of a process */

struct job {
    struct http_job_plan plan;
    const struct http_request *request;
    struct pending *pending;
};

static atomic_int jobs_running;

static void job_free(void *context) {
    struct job *job = context;
    if (job->plan.free_data && job->plan.data) {
        job->plan.free_data(job->plan.data);
    }
    free(job);
}

/* Only the job ends the wait, so the request and the job exist until pending_resume. */
static void *job_run(void *argument) {
    struct job *job = argument;
    struct pending *pending = job->pending;
    job->plan.work(job->request, job->plan.data);
    atomic_fetch_sub(&jobs_running, 1);
    if (pending_claim(pending)) {
        pending_resume(pending);
    } else {
        pending_drop(pending);
    }
    return NULL;
}

static void job_ended(struct http_request *request, struct http_response *response,
                      enum pending_end end, void *context) {
    struct job *job = context;
    (void)end;
    job->plan.then(request, response, job->plan.data);
}

static bool job_start_thread(struct job *job) {
    pthread_attr_t detached;
    pthread_t id;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    bool started = pthread_create(&id, &detached, job_run, job) == 0;
    pthread_attr_destroy(&detached);
    return started;
}

static void job_refuse(struct http_response *response) {
    metric_add(METRIC_HTTP_REFUSED, 1);
    http_problem(response, PROBLEM_OVERLOAD,
                 "%d tests, profiles or re-encryptions are already running", JOBS_RUNNING_MAX);
}

void http_job_start(struct http_request *request, struct http_response *response,
                    const struct http_job_plan *plan) {
    struct job *job = calloc(1, sizeof *job);
    if (!job) {
        if (plan->free_data && plan->data) {
            plan->free_data(plan->data);
        }
        http_problem_memory(response);
        return;
    }
    *job = (struct job){.plan = *plan, .request = request};
    struct pending *pending = pending_begin(
        request, response,
        &(struct pending_plan){
            .flags = PENDING_UNTIL_SOURCE, .then = job_ended, .data = job, .free_data = job_free});
    if (!pending) {
        return;
    }
    job->pending = pending;
    bool room = atomic_fetch_add(&jobs_running, 1) < JOBS_RUNNING_MAX;
    if (!room || !job_start_thread(job)) {
        atomic_fetch_sub(&jobs_running, 1);
        pending_cancel(request, pending);
        job_refuse(response);
    }
}
