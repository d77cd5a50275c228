/* GET /api/v1/caller: who the caller is, so that a program offers only what is permitted. The MHD
 * threads: must not block. */
#include "http/api/api.h"

#include "http/auth/access.h"
#include "http/server/json.h"

void api_caller(struct http_request *request, struct http_response *response) {
    const struct http_api *api = request->api;
    bool open = !api->context.access || !access_requires_token(api->context.access);
    char scope[SCOPE_TEXT_LEN];
    scope_format(&request->caller.scope, scope);
    http_answer_json(response, 200,
                     json_pack("{s:o, s:s, s:o}", "name",
                               http_json_string(open ? "anonymous" : request->caller.name), "role",
                               role_name(open ? ROLE_ADMIN : request->caller.role), "scope",
                               *scope ? http_json_string(scope) : json_null()));
}
