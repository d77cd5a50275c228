/* Commands that move clients between nodes: drain, undrain, rebalance. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "node.h"
#include "progress.h"

#define POLL_MS  500
#define ASKED_MS 3000 /* until every node has learned of a request with its heartbeat */
#define PATH_LEN 64

/* A wait that shows its progress. */
struct move_wait {
    const char *what;      /* "drain", or "rebalance" */
    int64_t deadline_ms;   /* INT64_MAX: none */
    long long first, left; /* clients; -1: not known yet */
    char said[200];        /* the last reason that was printed */
};

static struct move_wait cli_drain_wait(const struct cli *cli, const char *what) {
    const char *given = cli->values[OPT_TIMEOUT];
    int64_t ms = given ? (int64_t)(strtod(given, NULL) * 1000) : 0;
    return (struct move_wait){
        .what = what, .deadline_ms = given ? clock_ms() + ms : INT64_MAX, .first = -1, .left = -1};
}

static void cli_drain_show(struct move_wait *wait, long long left, const json_t *reason) {
    const char *message = cli_json_text(reason, "message");
    if (left != wait->left) {
        wait->first = wait->first < left ? left : wait->first;
        wait->left = left;
        if (isatty(STDERR_FILENO)) {
            cli_progress_show(wait->what, (size_t)(wait->first - left), (size_t)wait->first);
        } else {
            fprintf(stderr, "%s: %lld clients remain\n", wait->what, left);
        }
    }
    if (message && strcmp(message, wait->said) != 0) {
        cli_progress_clear();
        fprintf(stderr, "%s: waits: %s\n", wait->what, message);
        snprintf(wait->said, sizeof wait->said, "%s", message);
    }
}

/* False: the wait ends; *code says why. */
static bool cli_drain_goes_on(const struct move_wait *wait, enum cli_exit *code) {
    if (clock_ms() >= wait->deadline_ms) {
        cli_progress_clear();
        cli_error("%s: %lld clients remain after --timeout%s%s", wait->what, wait->left,
                  wait->said[0] != '\0' ? ": " : "", wait->said);
        *code = CLI_FAILED;
        return false;
    }
    if (!cli_sleep_ms(POLL_MS)) {
        *code = CLI_INTERRUPTED;
        return false;
    }
    return true;
}

/* ---- drain ----------------------------------------------------------------------------------- */

static enum cli_exit cli_drain_wait_until_empty(struct cli *cli, const char *node) {
    struct move_wait wait = cli_drain_wait(cli, node);
    char *path = cli_node_path("nodes", node, "");
    enum cli_exit code = CLI_OK;
    do {
        struct cli_answer answer;
        cli_node_call(cli, "GET", path, NULL, 0, &answer);
        code = cli_answer_check(&answer, node);
        if (code == CLI_OK) {
            cli_drain_show(&wait, cli_json_number(answer.json, "clients"),
                           json_object_get(answer.json, "drain_waits_for"));
        }
        cli_answer_fini(&answer);
    } while (code == CLI_OK && wait.left != 0 && cli_drain_goes_on(&wait, &code));
    cli_progress_clear();
    free(path);
    return code;
}

static enum cli_exit cli_drain_set(struct cli *cli, const char *action) {
    struct cli_answer answer;
    char *path = cli_node_path("nodes", cli->words[0], action);
    cli_node_call(cli, "POST", path, NULL, 0, &answer);
    free(path);
    enum cli_exit code = cli_answer_check(&answer, cli->words[0]);
    const char *state = cli_json_text(answer.json, "state");
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
    } else if (code == CLI_OK && state) {
        printf("%s: %s, %lld clients\n", cli->words[0], state,
               cli_json_number(answer.json, "clients"));
    } else if (code == CLI_OK) {
        printf("%s: does not run; it accepts clients when it starts\n", cli->words[0]);
    }
    cli_answer_fini(&answer);
    return code;
}

enum cli_exit command_drain(struct cli *cli) {
    enum cli_exit code = cli_drain_set(cli, "drain");
    if (code == CLI_OK && cli_option_given(cli, OPT_WAIT)) {
        fflush(stdout);
        code = cli_drain_wait_until_empty(cli, cli->words[0]);
    }
    return code;
}

enum cli_exit command_undrain(struct cli *cli) {
    return cli_drain_set(cli, "undrain");
}

/* ---- rebalance ------------------------------------------------------------------------------- */

/* One look at the nodes. *ended: the request is over. */
static enum cli_exit cli_drain_look(struct cli *cli, struct move_wait *wait, bool *ended) {
    struct cli_answer answer;
    cli_node_call(cli, "GET", "/api/v1/nodes", NULL, 0, &answer);
    enum cli_exit code = cli_answer_check(&answer, NULL);
    const json_t *rebalance = json_object_get(answer.json, "rebalance");
    if (code == CLI_OK) {
        *ended = cli_json_number(rebalance, "rate") == 0;
        cli_drain_show(wait, cli_json_number(rebalance, "left"),
                       json_object_get(rebalance, "waits_for"));
    }
    cli_answer_fini(&answer);
    return code;
}

static enum cli_exit cli_drain_wait_until_level(struct cli *cli) {
    struct move_wait wait = cli_drain_wait(cli, "rebalance");
    int64_t asked_ms = clock_ms();
    bool ended = false;
    enum cli_exit code;
    do {
        code = cli_drain_look(cli, &wait, &ended);
        ended = ended && clock_ms() - asked_ms >= ASKED_MS;
    } while (code == CLI_OK && wait.left != 0 && !ended && cli_drain_goes_on(&wait, &code));
    cli_progress_clear();
    if (code == CLI_OK && wait.left > 0) {
        cli_error("rebalance: %lld clients did not move: %s", wait.left,
                  wait.said[0] != '\0' ? wait.said
                                       : "they are not connected, or no emptier node can run them");
        return CLI_FAILED;
    }
    return code;
}

enum cli_exit command_rebalance(struct cli *cli) {
    struct cli_answer answer;
    char path[PATH_LEN] = "/api/v1/nodes:rebalance";
    const char *rate = cli->values[OPT_RATE];
    char *escaped = rate ? cli_node_escape(rate) : NULL;
    if (escaped) {
        snprintf(path, sizeof path, "/api/v1/nodes:rebalance?rate=%s", escaped);
    }
    cli_node_call(cli, "POST", path, NULL, 0, &answer);
    free(escaped);
    enum cli_exit code = cli_answer_check(&answer, NULL);
    bool stops = cli_json_number(answer.json, "rate") == 0;
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
        fflush(stdout);
    }
    cli_answer_fini(&answer);
    if (code == CLI_OK && !stops) {
        code = cli_drain_wait_until_level(cli);
    }
    if (code == CLI_OK && cli->format != CLI_FORMAT_JSON) {
        puts(stops ? "stopped" : "level");
    }
    return code;
}
