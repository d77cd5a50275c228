/* Serves the files of the page. */
#include "http/console/console.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "console_files.h"
#include "http/server/problem.h"

/* The page loads nothing from elsewhere, runs no inline script, and cannot be framed. A page that
 * opens it by a link has no handle to it. */
#define CONSOLE_POLICY                                                                             \
    "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; "             \
    "form-action 'self'"

/* RFC 9110 section 13.1.2: a list of entity tags, compared weakly, or "*". */
static bool console_is_cached(const struct http_request *request, const struct console_file *file) {
    const char *tags = request->if_none_match;
    return tags && (strcmp(tags, "*") == 0 || strstr(tags, file->etag) != NULL);
}

static void console_answer(const struct http_request *request, const struct console_file *file,
                           struct http_response *response) {
    if (console_is_cached(request, file)) {
        http_answer_empty(response, 304);
    } else {
        char *body = malloc(file->len);
        if (!body) {
            http_problem_memory(response);
            return;
        }
        memcpy(body, file->data, file->len);
        http_answer_bytes(response, 200, file->content_type, body, file->len);
        http_answer_header(response, "Content-Encoding", "gzip");
    }
    http_answer_header(response, "ETag", "%s", file->etag);
    http_answer_header(response, "Cache-Control", "no-cache");
    http_answer_header(response, "Content-Security-Policy", CONSOLE_POLICY);
    http_answer_header(response, "Referrer-Policy", "no-referrer");
    http_answer_header(response, "Cross-Origin-Opener-Policy", "same-origin");
}

static void console_answer_name(struct http_request *request, const char *name,
                                struct http_response *response) {
    for (const struct console_file *file = console_files; file->name; file++) {
        if (strcmp(file->name, name) == 0) {
            console_answer(request, file, response);
            return;
        }
    }
    http_problem(response, PROBLEM_NOT_FOUND, "the console has no file %.64s", name);
}

void console_page(struct http_request *request, struct http_response *response) {
    console_answer_name(request, "index.html", response);
}

void console_file(struct http_request *request, struct http_response *response) {
    console_answer_name(request, request->parameter, response);
}
