/* Owns the connection to the node. The only file of the tool that includes libcurl. */
#include "node.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/buffer.h"
#include "base/text.h"
#include "sse.h"
#include "table.h"

#define ANSWER_BYTES_MAX ((size_t)256 * 1024 * 1024)
#define CONNECT_MS       5000L
#define TIMEOUT_S        30
#define TOKEN_MAX        512
#define SILENCE_S        60L /* a stream sends a keep-alive every 15 s */
#define RETRY_MS_MAX     10000

/* ---- settings -------------------------------------------------------------------------------- */

static const char *cli_node_setting_of(const struct cli *cli, enum cli_option option,
                                       const char *variable, const char *standard) {
    const char *value = cli->values[option];
    value = value ? value : getenv(variable);
    return value && value[0] != '\0' ? value : standard;
}

static bool cli_node_read_token_file(const char *path, char out[TOKEN_MAX + 2],
                                     struct cli_answer *answer) {
    FILE *file = fopen(path, "re");
    if (!file || !fgets(out, TOKEN_MAX + 2, file)) {
        snprintf(answer->error, sizeof(answer->error), "--token-file %.150s: %s", path,
                 !file ? strerror(errno) : "is empty");
        answer->fault = CLI_ANSWER_UNSENT;
        if (file) {
            fclose(file);
        }
        return false;
    }
    fclose(file);
    out[strcspn(out, "\r\n \t")] = '\0';
    return true;
}

/* Writes "Authorization: Bearer ..." or nothing. Never from the command line, which other users can
 * read. */
static bool cli_node_add_token(const struct cli *cli, struct curl_slist **headers,
                               struct cli_answer *answer) {
    char token[TOKEN_MAX + 2] = "", header[TOKEN_MAX + 64];
    const char *path = cli_node_setting_of(cli, OPT_TOKEN_FILE, "MQFLEET_TOKEN_FILE", NULL);
    const char *direct = getenv("MQFLEET_TOKEN");
    if (path) {
        if (!cli_node_read_token_file(path, token, answer)) {
            return false;
        }
    } else if (direct) {
        snprintf(token, sizeof(token), "%s", direct);
    }
    if (token[0] != '\0') {
        snprintf(header, sizeof(header), "Authorization: Bearer %s", token);
        *headers = curl_slist_append(*headers, header);
    }
    return true;
}

static long cli_node_timeout_ms(const struct cli *cli) {
    const char *text = cli->values[OPT_TIMEOUT];
    double seconds = text ? strtod(text, NULL) : TIMEOUT_S;
    return (long)(seconds * 1000);
}

/* ---- one request ----------------------------------------------------------------------------- */

static size_t cli_node_on_body(char *data, size_t size, size_t count, void *context) {
    struct buffer *body = context;
    size_t len = size * count;
    if (body->len + len > ANSWER_BYTES_MAX) {
        return 0;
    }
    buffer_append(body, data, len);
    return body->failed ? 0 : len;
}

static size_t cli_node_on_header(char *data, size_t size, size_t count, void *context) {
    static const char NAME[] = "x-request-id:";
    struct cli_answer *answer = context;
    size_t len = size * count;
    if (len > strlen(NAME) && strncasecmp(data, NAME, strlen(NAME)) == 0) {
        snprintf(answer->request_id, sizeof(answer->request_id), "%.*s", (int)(len - strlen(NAME)),
                 data + strlen(NAME));
        char *start = answer->request_id + strspn(answer->request_id, " ");
        memmove(answer->request_id, start, strlen(start) + 1);
        answer->request_id[strcspn(answer->request_id, "\r\n")] = '\0';
    }
    return len;
}

static int cli_node_on_progress(void *context, curl_off_t a, curl_off_t b, curl_off_t c,
                                curl_off_t d) {
    (void)context;
    (void)a;
    (void)b;
    (void)c;
    (void)d;
    return cli_interrupted();
}

/* The handle and its connection are kept. */
static CURL *cli_node_easy_handle(void) {
    static CURL *easy;
    if (!easy && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) {
        easy = curl_easy_init();
    } else if (easy) {
        curl_easy_reset(easy);
    }
    return easy;
}

static bool cli_node_prepare_request(struct cli *cli, CURL *easy, const char *path,
                                     struct curl_slist **headers, struct cli_answer *answer) {
    const char *base = cli_node_setting_of(cli, OPT_URL, "MQFLEET_URL", "http://127.0.0.1:8080");
    const char *ca = cli_node_setting_of(cli, OPT_CA, "MQFLEET_CA", NULL);
    size_t base_len = strlen(base);
    char *url = malloc(base_len + strlen(path) + 1);
    if (!url || !cli_node_add_token(cli, headers, answer)) {
        free(url);
        return false;
    }
    while (base_len > 0 && base[base_len - 1] == '/') {
        base_len--;
    }
    sprintf(url, "%.*s%s", (int)base_len, base, path);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    free(url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "mqfleet/" MQFLEET_VERSION);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, cli_node_on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, answer);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, cli_node_on_progress);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    if (ca) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, ca);
    }
    return true;
}

static void cli_node_set_no_answer(const struct cli *cli, CURLcode code, const char *detail,
                                   struct cli_answer *answer) {
    const char *url = cli_node_setting_of(cli, OPT_URL, "MQFLEET_URL", "http://127.0.0.1:8080");
    bool plain = strncmp(url, "http:", 5) == 0;
    const char *advice = code == CURLE_COULDNT_CONNECT
                             ? "; does a node run there? --url or $MQFLEET_URL names another"
                         : code == CURLE_GOT_NOTHING && plain ? "; does it require https?"
                         : code == CURLE_SSL_CONNECT_ERROR    ? "; does it use plain http?"
                         : code == CURLE_PEER_FAILED_VERIFICATION
                             ? "; use --ca to name a file of trusted certificates"
                             : "";
    const char *what = code == CURLE_SSL_CONNECT_ERROR ? "TLS handshake failed: " : "";
    snprintf(answer->error, sizeof(answer->error), "%.100s: %s%.130s%s", url, what,
             detail[0] != '\0' ? detail : curl_easy_strerror(code), advice);
}

void cli_node_call(struct cli *cli, const char *method, const char *path, json_t *body,
                   long extra_ms, struct cli_answer *answer) {
    char error[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    struct buffer received;
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    CURL *easy = cli_node_easy_handle();
    *answer = (struct cli_answer){0};
    buffer_init(&received);
    json_decref(body);
    if (cli->if_match[0] != '\0') {
        char header[64];
        snprintf(header, sizeof header, "If-Match: %s", cli->if_match);
        headers = curl_slist_append(headers, header);
    }
    if (!easy || !cli_node_prepare_request(cli, easy, path, &headers, answer)) {
        goto out;
    }
    if (text) {
        headers = curl_slist_append(headers, "Content-Type: application/json");
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(text));
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, text);
    } else if (strcmp(method, "POST") == 0) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, "");
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, cli_node_timeout_ms(cli) + extra_ms);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, cli_node_on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &received);
    CURLcode code = curl_easy_perform(easy);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
    if (code != CURLE_OK) {
        cli_node_set_no_answer(cli, code, error, answer);
        goto out;
    }
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &answer->status);
    answer->text_len = received.len;
    answer->text = buffer_take(&received);
    answer->json =
        answer->text ? json_loadb(answer->text, answer->text_len, JSON_DECODE_ANY, NULL) : NULL;
    if (!answer->json && (answer->text_len > 0 || answer->status == 200) && answer->status >= 200 &&
        answer->status < 300) {
        answer->fault = CLI_ANSWER_NOT_A_NODE;
        snprintf(answer->error, sizeof(answer->error),
                 "%.100s: this is not mqfleetd: the answer is not JSON",
                 cli_node_setting_of(cli, OPT_URL, "MQFLEET_URL", "http://127.0.0.1:8080"));
    }
out:
    buffer_fini(&received);
    curl_slist_free_all(headers);
    free(text);
}

void cli_answer_fini(struct cli_answer *answer) {
    json_decref(answer->json);
    free(answer->text);
    *answer = (struct cli_answer){0};
}

/* ---- errors ---------------------------------------------------------------------------------- */

bool cli_answer_succeeded(const struct cli_answer *answer) {
    return answer->status >= 200 && answer->status < 300 && answer->fault != CLI_ANSWER_NOT_A_NODE;
}

enum cli_exit cli_answer_exit_code(const struct cli_answer *answer) {
    switch (answer->status) {
    case 0:
        return answer->fault == CLI_ANSWER_UNSENT ? CLI_USAGE : CLI_UNREACHABLE;
    case 401:
    case 403:
    case 429:
        return CLI_REFUSED;
    case 404:
        return CLI_NOT_FOUND;
    case 400:
    case 409:
    case 412:
    case 413:
    case 422:
        return CLI_INVALID;
    default:
        return cli_answer_succeeded(answer) ? CLI_OK : CLI_FAILED;
    }
}

const char *cli_json_text(const json_t *object, const char *name) {
    return json_string_value(json_object_get(object, name));
}

const char *cli_json_text_or_empty(const json_t *object, const char *name) {
    const char *text = cli_json_text(object, name);
    return text ? text : "";
}

long long cli_json_number(const json_t *object, const char *name) {
    return json_integer_value(json_object_get(object, name));
}

/* Prints the resources that name one which is in use. */
static void cli_answer_print_users(const json_t *problem) {
    static const char *const members[] = {"clients", "profiles", "sinks", "routes"};
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        const json_t *list = json_object_get(problem, members[i]);
        size_t n = json_array_size(list);
        for (size_t k = 0; k < n; k++) {
            const json_t *name = json_array_get(list, k);
            char safe[300];
            if (json_is_string(name)) {
                table_printable(json_string_value(name), safe, sizeof safe);
            } else {
                snprintf(safe, sizeof safe, "%lld", (long long)json_integer_value(name));
            }
            fprintf(stderr, "%s%s%s%s%s", k == 0 ? "  " : ", ", k == 0 ? members[i] : "",
                    k == 0 ? ": " : "", safe, k + 1 == n ? "\n" : "");
        }
    }
}

enum cli_exit cli_answer_explain(const struct cli_answer *answer, const char *what) {
    const char *colon = what ? ": " : "";
    what = what ? what : "";
    if (answer->status == 0 || answer->fault == CLI_ANSWER_NOT_A_NODE) {
        if (!cli_interrupted()) {
            cli_error("%s", answer->error);
        }
        return cli_answer_exit_code(answer);
    }
    const json_t *errors = json_object_get(answer->json, "errors");
    char detail[1024];
    table_printable(cli_json_text_or_empty(answer->json, "detail"), detail, sizeof(detail));
    if (detail[0] == '\0') {
        snprintf(detail, sizeof(detail), "the node answered with status %ld", answer->status);
    }
    if (json_array_size(errors) > 1) {
        table_printable(cli_json_text_or_empty(answer->json, "title"), detail, sizeof(detail));
        cli_error("%s%s%s", what, colon, detail);
    } else {
        cli_error("%s%s%s", what, colon, detail);
    }
    if (cli_json_text_or_empty(answer->json, "advice")[0] != '\0') {
        table_printable(cli_json_text_or_empty(answer->json, "advice"), detail, sizeof(detail));
        fprintf(stderr, "  %s\n", detail);
    }
    if (answer->status == 401) {
        fputs("  the token: --token-file FILE, $MQFLEET_TOKEN_FILE or $MQFLEET_TOKEN\n", stderr);
    }
    size_t i;
    const json_t *fault;
    json_array_foreach(errors, i, fault) {
        if (json_array_size(errors) > 1) {
            char pointer[300];
            table_printable(cli_json_text_or_empty(fault, "detail"), detail, sizeof(detail));
            fprintf(
                stderr, "  %s: %s\n",
                table_printable(cli_json_text_or_empty(fault, "pointer"), pointer, sizeof(pointer)),
                detail);
        }
    }
    if (answer->status == 409) {
        cli_answer_print_users(answer->json);
    }
    if (answer->status >= 500 && answer->request_id[0] != '\0') {
        fprintf(stderr, "  request %s in the node's log\n", answer->request_id);
    }
    return cli_answer_exit_code(answer);
}

enum cli_exit cli_answer_check(const struct cli_answer *answer, const char *what) {
    return cli_answer_succeeded(answer) ? CLI_OK : cli_answer_explain(answer, what);
}

void cli_answer_print(const struct cli_answer *answer) {
    fwrite(answer->text ? answer->text : "", 1, answer->text_len, stdout);
    fputc('\n', stdout);
}

const char *cli_answer_waiting(const json_t *status, char *out, size_t size) {
    const json_t *waiting = json_object_get(status, "waiting");
    const char *reason = cli_json_text_or_empty(waiting, "reason"),
               *message = cli_json_text_or_empty(waiting, "message");
    if (reason[0] == '\0') {
        return NULL;
    }
    snprintf(out, size, "%s: %s", reason, message);
    return out;
}

/* ---- paths ----------------------------------------------------------------------------------- */

char *cli_node_escape(const char *text) {
    static const char UNRESERVED[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    char *out = malloc(strlen(text) * 3 + 1), *end = out;
    for (const char *at = text; out && *at != '\0'; at++) {
        if (strchr(UNRESERVED, *at)) {
            *end++ = *at;
        } else {
            end += sprintf(end, "%%%02X", (unsigned)(unsigned char)*at);
        }
    }
    if (out) {
        *end = '\0';
    }
    return out;
}

/* A name that consists of dots would be interpreted as a parent folder. */
static char *cli_node_escape_segment(const char *name) {
    char *escaped = cli_node_escape(name);
    if (escaped && (strcmp(escaped, ".") == 0 || strcmp(escaped, "..") == 0)) {
        free(escaped);
        return text_dup(name[1] == '\0' ? "%2E" : "%2E%2E");
    }
    return escaped;
}

char *cli_node_path(const char *collection, const char *name, const char *action) {
    char *escaped = cli_node_escape_segment(name), *path = NULL;
    if (escaped && asprintf(&path, "/api/v1/%s/%s%s%s", collection, escaped,
                            action[0] != '\0' ? "/" : "", action) < 0) {
        path = NULL;
    }
    free(escaped);
    return path;
}

/* ---- streams --------------------------------------------------------------------------------- */

struct cli_node_feed {
    struct sse sse;
    struct buffer error_body; /* the body if it is not a stream */
    CURL *easy;
    struct cli *cli;
    cli_node_event *on_event;
    void *context;
    bool ended; /* the callback has enough */
};

static bool cli_node_on_event(void *context, const char *event, const char *text) {
    struct cli_node_feed *feed = context;
    json_t *data = json_loads(text, JSON_DECODE_ANY, NULL);
    const char *id = feed->sse.id;
    if (id[0] != '\0') {
        snprintf(feed->cli->last_event_id, sizeof(feed->cli->last_event_id), "%s", id);
        json_object_set_new(data, "event_id", json_string(id));
    }
    bool goes_on = !data || feed->on_event(feed->context, event, data);
    json_decref(data);
    feed->ended = !goes_on;
    return goes_on;
}

static size_t cli_node_on_stream_data(char *data, size_t size, size_t count, void *context) {
    struct cli_node_feed *feed = context;
    long status = 0;
    size_t len = size * count;
    curl_easy_getinfo(feed->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) {
        return cli_node_on_body(data, size, count, &feed->error_body);
    }
    return sse_feed(&feed->sse, data, len, cli_node_on_event, feed) ? len : 0;
}

void cli_node_stream(struct cli *cli, const char *path, cli_node_event *take, void *context,
                     struct cli_answer *answer) {
    char error[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = curl_slist_append(NULL, "Accept: text/event-stream");
    struct cli_node_feed feed = {
        .easy = cli_node_easy_handle(), .cli = cli, .on_event = take, .context = context};
    *answer = (struct cli_answer){0};
    sse_init(&feed.sse);
    buffer_init(&feed.error_body);
    if (cli->last_event_id[0] != '\0') {
        char header[sizeof(cli->last_event_id) + 32];
        snprintf(header, sizeof(header), "Last-Event-ID: %s", cli->last_event_id);
        headers = curl_slist_append(headers, header);
    }
    if (feed.easy && cli_node_prepare_request(cli, feed.easy, path, &headers, answer)) {
        curl_easy_setopt(feed.easy, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(feed.easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(feed.easy, CURLOPT_LOW_SPEED_TIME, SILENCE_S);
        curl_easy_setopt(feed.easy, CURLOPT_ERRORBUFFER, error);
        curl_easy_setopt(feed.easy, CURLOPT_WRITEFUNCTION, cli_node_on_stream_data);
        curl_easy_setopt(feed.easy, CURLOPT_WRITEDATA, &feed);
        CURLcode code = curl_easy_perform(feed.easy);
        curl_easy_setopt(feed.easy, CURLOPT_ERRORBUFFER, NULL);
        curl_easy_getinfo(feed.easy, CURLINFO_RESPONSE_CODE, &answer->status);
        if (code != CURLE_OK && answer->status == 0) {
            cli_node_set_no_answer(cli, code, error, answer);
        }
        answer->json = feed.error_body.len > 0
                           ? json_loadb(feed.error_body.data, feed.error_body.len, 0, NULL)
                           : NULL;
    }
    if (feed.ended) {
        answer->status = -1;
    }
    sse_fini(&feed.sse);
    buffer_fini(&feed.error_body);
    curl_slist_free_all(headers);
}

enum cli_exit cli_node_follow(struct cli *cli, const char *path, cli_node_event *take,
                              void *context) {
    bool was_there = false;
    long delay_ms = 500;
    for (;;) { /* until the callback has enough, or Ctrl-C */
        struct cli_answer answer;
        enum cli_exit code = CLI_OK;
        cli_node_stream(cli, path, take, context, &answer);
        bool enough = answer.status == -1 || cli_interrupted();
        bool ended = answer.status == 200;
        if (!enough && !ended && (!was_there || (answer.status > 0 && answer.status < 500))) {
            code = cli_answer_explain(&answer, NULL);
            enough = true;
        }
        cli_answer_fini(&answer);
        if (enough) {
            return code;
        }
        delay_ms = ended ? 500 : delay_ms * 2 < RETRY_MS_MAX ? delay_ms * 2 : RETRY_MS_MAX;
        was_there = true;
        fputs("mqfleet: the stream ended; reconnecting\n", stderr);
        if (!cli_sleep_ms(delay_ms)) {
            return CLI_OK;
        }
    }
}
