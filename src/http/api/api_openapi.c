/* GET /openapi.json: the description of the API. The MHD threads: must not block. */
#include "http/api/api.h"

void api_openapi(struct http_request *request, struct http_response *response) {
    (void)request;
    http_answer_text(response, 200, openapi_json);
    if (response->status == 200) {
        response->content_type = "application/json";
    }
}
