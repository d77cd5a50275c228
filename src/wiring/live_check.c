/* Owns the health check of a container: one request to the node that runs with the same settings.
 * It sends no token and checks no certificate: the node's is made for the name by which others
 * reach it, and only the status of the answer matters. */
#include "live_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "command_line.h"
#include "net/http_client.h"

#define TIMEOUT_MS         2000
#define RESPONSE_BYTES_MAX 4096

static const char *live_check_host(const char *listen) {
    if (strcmp(listen, "0.0.0.0") == 0) {
        return "127.0.0.1";
    }
    return strcmp(listen, "::") == 0 ? "::1" : listen;
}

void live_check_url(const struct conf *conf, char out[LIVE_CHECK_URL_LEN]) {
    const char *host = live_check_host(conf->http_listen);
    bool is_v6 = strchr(host, ':') != NULL;
    snprintf(out, LIVE_CHECK_URL_LEN, "%s://%s%s%s:%lld/livez?verbose",
             conf->http_tls_cert_file[0] != '\0' ? "https" : "http", is_v6 ? "[" : "", host,
             is_v6 ? "]" : "", (long long)conf->node_port);
}

static int live_check_report(const struct http_client_request *request) {
    if (request->result == ERR_OK && request->status == 200) {
        puts("mqfleetd: the node is live");
        return command_line_flush_output();
    }
    if (request->result == ERR_OK) {
        fprintf(stderr, "mqfleetd: %s: HTTP %ld\n%.*s", request->url, request->status,
                (int)request->response.len, request->response.data ? request->response.data : "");
    } else {
        fprintf(stderr, "mqfleetd: %s: %s\n", request->url, request->fault);
    }
    return EXIT_FAILURE;
}

int live_check_run(const struct conf *conf) {
    const struct http_client_options options = {.timeout_ms = TIMEOUT_MS,
                                                .response_bytes_max = RESPONSE_BYTES_MAX,
                                                .cuts_responses = true,
                                                .unverified = true};
    char url[LIVE_CHECK_URL_LEN];
    live_check_url(conf, url);
    struct http_client *client =
        http_client_global_init() == ERR_OK ? http_client_create(&options) : NULL;
    if (!client) {
        fputs("mqfleetd: out of memory\n", stderr);
        return EXIT_FAILURE;
    }
    struct http_client_request request = {.method = "GET", .url = url};
    http_client_run(client, &request, 1);
    int code = live_check_report(&request);
    buffer_fini(&request.response);
    http_client_destroy(client);
    return code;
}
