/* Requests to a node over libcurl, and telling what it answered when that is an error. One thread.
 */
#ifndef MQFLEET_CLI_NODE_H
#define MQFLEET_CLI_NODE_H

#include <stdio.h>
#include "cli.h"

struct probe_answer {
    long status;  /* 0: none came */
    json_t *json; /* NULL: no body, or no JSON; owned */
    char *text;   /* the body; owned, may be NULL */
    size_t text_len;
    char request_id[80];
    char error[320]; /* why none came, or none that a node would give */
    bool not_a_node; /* 2xx, and no JSON: whatever answered is no node */
    bool unsent;     /* something here was wrong */
};

/* Sends method and path ("/api/v1/..."), with body (NULL: none; its reference is taken). extra_ms
 * is added to the limit of time. cli_answer_fini in any case. */
void cli_node_call(struct cli *cli, const char *method, const char *path, json_t *body,
                   long extra_ms, struct probe_answer *answer);
void cli_answer_fini(struct probe_answer *answer);

/* 2xx. */
bool cli_answer_succeeded(const struct probe_answer *answer);
/* Tells on stderr what went wrong, with every fault; what: the thing it was about, or NULL. Returns
 * the exit code that fits. */
enum cli_exit cli_answer_explain(const struct probe_answer *answer, const char *what);
enum cli_exit cli_answer_exit_code(const struct probe_answer *answer);
/* Prints the body as it came, and a newline. */
void cli_answer_print(const struct probe_answer *answer);
/* Why a client is on no node, by its status: "no_room: every node ...", in out. NULL: it is on one.
 */
const char *cli_answer_waiting(const json_t *status, char *out, size_t size);

/* The path of a client or a node with an action ("" none), escaped. free(). */
char *cli_node_path(const char *collection, const char *name, const char *action);
/* One word of a query, escaped. free(). */
char *cli_node_escape(const char *text);

/* One event of a stream. False: enough. */
typedef bool cli_node_event(void *context, const char *event, json_t *data);
/* Follows a stream until it ends, `take` says so, or Ctrl-C. The answer is filled in as by
 * cli_node_call; its status is 200 when events could come. */
void cli_node_stream(struct cli *cli, const char *path, cli_node_event *take, void *context,
                     struct probe_answer *answer);
/* Follows it for ever: connects anew, later and later, once it was there. */
enum cli_exit cli_node_follow(struct cli *cli, const char *path, cli_node_event *take,
                              void *context);

#endif
