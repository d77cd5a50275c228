/* /debug/pprof: profiles for `go tool pprof` and compatible programs. The handler threads; a
 * profile that takes time is a job. */
#include "http/api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/telemetry/log.h"
#include "http/api/job.h"
#include "http/server/problem.h"
#include "profile/heap.h"
#include "profile/profile.h"
#include "profile/signals.h"
#include "profile/symbols.h"

#define SECONDS_DEFAULT 30
#define SECONDS_MAX     300
#define ADDRESSES_MAX   1024

static const char pprof_index_page[] =
    "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>/debug/pprof/</title>"
    "</head><body><h1>Profiles of this node</h1><ul>"
    "<li><a href=\"heap?debug=1\">heap</a>: live memory by call stack</li>"
    "<li><a href=\"allocs?debug=1\">allocs</a>: all allocations since the start</li>"
    "<li><a href=\"profile\">profile</a>: CPU time during 30 seconds"
    " (?seconds=)</li>"
    "<li><a href=\"threads?debug=2\">threads</a>: all threads with their call stacks</li>"
    "<li><a href=\"cmdline\">cmdline</a>: the command line</li>"
    "<li><a href=\"symbol\">symbol</a>: names of addresses</li>"
    "</ul><p>go tool pprof -http : http://HOST:PORT/debug/pprof/heap</p></body></html>\n";

void api_pprof_index(struct http_request *request, struct http_response *response) {
    (void)request;
    http_answer_text(response, 200, pprof_index_page);
    if (response->status == 200) {
        response->content_type = "text/html; charset=utf-8";
    }
}

/* To where the page's links lead on from. */
void api_pprof_slash(struct http_request *request, struct http_response *response) {
    (void)request;
    http_answer_text(response, 301, "see /debug/pprof/\n");
    http_answer_header(response, "Location", "pprof/");
}

static void pprof_answer_buffer(struct http_response *response, const char *type,
                                struct buffer *out) {
    size_t len = out->len;
    char *body = buffer_take(out);
    if (!body) {
        http_answer_json(response, 500, NULL);
        return;
    }
    http_answer_bytes(response, 200, type, body, len);
}

/* False: answered. Before a profile is taken, which may last. */
static bool pprof_debug_is_valid(const struct http_request *request,
                                 struct http_response *response) {
    int64_t debug;
    if (http_query_int(&request->query, "debug", 0, 2, 0, &debug) == ERR_OK) {
        return true;
    }
    http_problem(response, PROBLEM_BAD_REQUEST, "debug must be 0, 1 or 2");
    return false;
}

/* Destroys the profile. */
static void pprof_answer_profile(const struct http_request *request, struct http_response *response,
                                 struct profile *profile, const char *name) {
    struct buffer out;
    int64_t debug = 0;
    buffer_init(&out);
    (void)!http_query_int(&request->query, "debug", 0, 2, 0, &debug); /* has been checked */
    if (debug > 0) {
        buffer_printf(&out, "%s profile: %zu samples\n", name, profile_sample_count(profile));
    }
    enum err err =
        debug > 0 ? profile_print(profile, debug == 1, &out) : profile_write(profile, &out);
    profile_destroy(profile);
    if (err != ERR_OK) {
        buffer_fini(&out);
        http_answer_json(response, 500, NULL);
        return;
    }
    pprof_answer_buffer(response,
                        debug > 0 ? "text/plain; charset=utf-8" : "application/octet-stream", &out);
    if (debug == 0 && response->status == 200) {
        http_answer_header(response, "Content-Disposition", "attachment; filename=\"%s.pb.gz\"",
                           name);
    }
}

static void pprof_answer_unsupported(struct http_response *response) {
    http_problem(response, PROBLEM_UNSUPPORTED,
                 "not available: profiles conflict with the sanitizer of this build");
}

static void pprof_answer_error(struct http_response *response, enum err err) {
    if (err == ERR_UNSUPPORTED) {
        pprof_answer_unsupported(response);
    } else if (err == ERR_EXISTS) {
        http_problem(response, PROBLEM_BUSY, "another profile of this kind is running");
    } else {
        http_answer_json(response, 500, NULL);
    }
}

/* ---- heap ------------------------------------------------------------------------------------ */

static void pprof_answer_heap(const struct http_request *request, struct http_response *response,
                              const char *name, const char *shown) {
    if (!heap_profile_supported()) {
        pprof_answer_unsupported(response);
        return;
    }
    if (heap_profile_mean_bytes() == 0) {
        http_problem(response, PROBLEM_UNSUPPORTED, "profile.heap_sample_bytes is 0");
        return;
    }
    if (!pprof_debug_is_valid(request, response)) {
        return;
    }
    struct profile *profile = heap_profile_take();
    if (!profile) {
        http_answer_json(response, 500, NULL);
        return;
    }
    int64_t lost_stacks, lost_live;
    heap_profile_lost(&lost_stacks, &lost_live);
    if (lost_stacks > 0 || lost_live > 0) {
        log_event(LOG_WARN, "profile_samples_lost", KI("stacks", lost_stacks),
                  KI("live", lost_live));
    }
    profile_set_default_type(profile, shown);
    pprof_answer_profile(request, response, profile, name);
}

void api_pprof_heap(struct http_request *request, struct http_response *response) {
    pprof_answer_heap(request, response, "heap", "inuse_space");
}

void api_pprof_allocs(struct http_request *request, struct http_response *response) {
    pprof_answer_heap(request, response, "allocs", "alloc_space");
}

/* ---- threads --------------------------------------------------------------------------------- */

struct cpu_profile {
    int seconds;
    enum err result;
    struct profile *profile; /* NULL: none */
};

static void pprof_cpu_free(void *data) {
    struct cpu_profile *cpu = data;
    profile_destroy(cpu->profile);
    free(cpu);
}

static void pprof_cpu_run(const struct http_request *request, void *data) {
    struct cpu_profile *cpu = data;
    cpu->result =
        cpu_profile_take(&cpu->profile, cpu->seconds, http_request_is_cancelled, (void *)request);
}

static void pprof_cpu_answer(struct http_request *request, struct http_response *response,
                             void *data) {
    struct cpu_profile *cpu = data;
    if (cpu->result != ERR_OK) {
        pprof_answer_error(response, cpu->result);
        return;
    }
    pprof_answer_profile(request, response, cpu->profile, "profile");
    cpu->profile = NULL;
}

void api_pprof_profile(struct http_request *request, struct http_response *response) {
    int64_t seconds;
    if (http_query_int(&request->query, "seconds", 1, SECONDS_MAX, SECONDS_DEFAULT, &seconds) !=
        ERR_OK) {
        http_problem(response, PROBLEM_BAD_REQUEST, "seconds must be from 1 to %d", SECONDS_MAX);
        return;
    }
    if (!pprof_debug_is_valid(request, response)) {
        return;
    }
    struct cpu_profile *cpu = calloc(1, sizeof *cpu);
    if (!cpu) {
        http_problem_memory(response);
        return;
    }
    cpu->seconds = (int)seconds;
    http_job_start(request, response,
                   &(struct http_job_plan){pprof_cpu_run, pprof_cpu_answer, cpu, pprof_cpu_free});
}

void api_pprof_threads(struct http_request *request, struct http_response *response) {
    struct profile *profile = NULL;
    if (!pprof_debug_is_valid(request, response)) {
        return;
    }
    enum err err = threads_profile_take(&profile);
    if (err != ERR_OK) {
        pprof_answer_error(response, err);
        return;
    }
    pprof_answer_profile(request, response, profile, "threads");
}

void api_pprof_mutex(struct http_request *request, struct http_response *response) {
    (void)request;
    http_problem(
        response, PROBLEM_NOT_FOUND,
        "lock contention is not measured, because that would slow down every lock; threads "
        "shows which threads are waiting now");
}

/* ---- the process ----------------------------------------------------------------------------- */

/* The value after --set may be a secret and is not shown. */
void api_pprof_cmdline(struct http_request *request, struct http_response *response) {
    char line[65536];
    struct buffer out;
    (void)request;
    FILE *file = fopen("/proc/self/cmdline", "re");
    size_t len = file ? fread(line, 1, sizeof(line) - 1, file) : 0;
    if (file) {
        fclose(file);
    }
    line[len] = '\0';
    buffer_init(&out);
    for (size_t at = 0; at < len; at += strlen(line + at) + 1) {
        const char *equals = strchr(line + at, '=');
        const char *second =
            equals && strncmp(line + at, "--set=", 6) == 0 ? strchr(equals + 1, '=') : equals;
        size_t shown = second ? (size_t)(second - (line + at)) + 1 : strlen(line + at);
        buffer_append(&out, at > 0 ? "\0" : "", at > 0);
        buffer_append(&out, line + at, shown);
        buffer_append_str(&out, second ? "***" : "");
    }
    pprof_answer_buffer(response, "text/plain; charset=utf-8", &out);
}

/* "0x1234+0x5678"; the query parser turns "+" into a space. One line per known address. */
void api_pprof_symbol(struct http_request *request, struct http_response *response) {
    struct buffer out;
    struct symbols *symbols = symbols_open();
    bool posted = request->body.len > 0;
    const char *at = posted                     ? request->body.data
                     : request->query.count > 0 ? request->query.items[0].name
                                                : "";
    buffer_init(&out);
    buffer_append_str(&out, "num_symbols: 1\n");
    for (size_t i = 0; symbols && i < ADDRESSES_MAX && *at != '\0'; i++) {
        char *end;
        unsigned long long address = strtoull(at, &end, 16);
        const char *name = symbols_name(symbols, (uintptr_t)address);
        if (end == at) {
            break;
        }
        if (name) {
            buffer_printf(&out, "0x%llx %s\n", address, name);
        }
        at = *end == '+' || *end == ' ' ? end + 1 : end;
    }
    symbols_close(symbols);
    pprof_answer_buffer(response, "text/plain; charset=utf-8", &out);
}
