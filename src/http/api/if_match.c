/* Owns the header If-Match. */
#include "http/api/if_match.h"

#include <string.h>
#include "http/server/problem.h"
#include "store/resources.h"

bool if_match_read(const struct http_request *request, const char *what, int64_t *version,
                   struct http_response *response) {
    *version = 0;
    if (!request->if_match || http_etag_parse(request->if_match, version) == ERR_OK) {
        return true;
    }
    http_problem(response, PROBLEM_BAD_REQUEST, "If-Match: must be the ETag of the %s", what);
    return false;
}

bool if_match_read_single(const struct http_request *request, const char *what, int64_t *version,
                          struct http_response *response) {
    if (request->if_match && strcmp(request->if_match, "\"0\"") == 0) {
        *version = 0;
        return true;
    }
    if (!if_match_read(request, what, version, response)) {
        return false;
    }
    *version = *version > 0 ? *version : STORE_VERSION_ANY;
    return true;
}

void if_match_answer_changed(const struct http_request *request, const char *what,
                             struct http_response *response) {
    http_problem(response, PROBLEM_VERSION, "%s %s has been changed; read it again", what,
                 request->parameter);
}
