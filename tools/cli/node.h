/* Requests to a node over libcurl, and messages for its errors. One thread. */
#ifndef MQFLEET_CLI_NODE_H
#define MQFLEET_CLI_NODE_H

#include <stdio.h>
#include "cli.h"

enum cli_answer_fault {
    CLI_ANSWER_NO_FAULT,
    CLI_ANSWER_NOT_A_NODE, /* 2xx without JSON */
    CLI_ANSWER_UNSENT      /* the error is on this side */
};

struct cli_answer {
    long status;  /* 0: no answer */
    json_t *json; /* NULL: no body, or not JSON; owned */
    char *text;   /* the body; owned, may be NULL */
    size_t text_len;
    char request_id[80];
    char error[320]; /* why there is no answer, or no valid one */
    enum cli_answer_fault fault;
};

/* Sends method and path ("/api/v1/..."), with body (NULL: none; takes its reference). extra_ms is
 * added to the timeout. The caller calls cli_answer_fini in any case. */
void cli_node_call(struct cli *cli, const char *method, const char *path, json_t *body,
                   long extra_ms, struct cli_answer *answer);
void cli_answer_fini(struct cli_answer *answer);

/* True for 2xx. */
bool cli_answer_succeeded(const struct cli_answer *answer);
/* Prints the error with all its faults on stderr; what: its subject, or NULL. Returns the exit
 * code. */
enum cli_exit cli_answer_explain(const struct cli_answer *answer, const char *what);
/* CLI_OK for 2xx; otherwise as cli_answer_explain. */
enum cli_exit cli_answer_check(const struct cli_answer *answer, const char *what);
enum cli_exit cli_answer_exit_code(const struct cli_answer *answer);
/* Prints the body unchanged, and a newline. */
void cli_answer_print(const struct cli_answer *answer);
/* Writes to out why a client is on no node, by its status: "no_room: every node ...". NULL: it is
 * on one. */
const char *cli_answer_waiting(const json_t *status, char *out, size_t size);

/* Members of a JSON object. NULL or 0: there is no such member of that type. Borrowed. */
const char *cli_json_text(const json_t *object, const char *name);
const char *cli_json_text_or_empty(const json_t *object, const char *name);
long long cli_json_number(const json_t *object, const char *name);

/* The escaped path of a client or a node with an action ("": none). The caller frees it. */
char *cli_node_path(const char *collection, const char *name, const char *action);
/* One escaped word of a query. The caller frees it. */
char *cli_node_escape(const char *text);

/* Handles one event of a stream. False: stop. */
typedef bool cli_node_event(void *context, const char *event, json_t *data);
/* Reads a stream until it ends, `take` returns false, or Ctrl-C. The answer is as of cli_node_call;
 * its status is 200 if the stream was open. */
void cli_node_stream(struct cli *cli, const char *path, cli_node_event *take, void *context,
                     struct cli_answer *answer);
/* Reads it without an end: reconnects with growing delays after it was open, and continues after
 * the last event that had an id. Such data gets an `event_id`. */
enum cli_exit cli_node_follow(struct cli *cli, const char *path, cli_node_event *take,
                              void *context);

#endif
