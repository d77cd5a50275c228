/* When a client that receives no messages counts as silent, and when its node does something about
 * it. Pure. Times: monotonic; 0: never. */
#ifndef MQFLEET_CLIENT_SILENCE_H
#define MQFLEET_CLIENT_SILENCE_H

#include <stdbool.h>
#include <stdint.h>

#define SILENCE_ACTIONS_MAX    127  /* of the count of actions */
#define SILENCE_INTERVAL_S_MAX 3600 /* between two actions, or expect_message_within_s */

struct silence {
    uint32_t expect_s; /* expect_message_within_s, not 0 */
    int64_t since_ms;  /* of the connection, or of its last message */
    bool silent;
    bool acts;           /* on_silence is not "report" */
    unsigned actions;    /* since messages last arrived regularly */
    uint32_t acted_at_s; /* the last one */
};

/* Time of the next event, which is the beginning of the silence or the next action; 0: none. */
int64_t silence_due_ms(const struct silence *silence);
/* Whether an action is due now. The interval doubles with each: expect_s * 2, * 4 ... up to
 * SILENCE_INTERVAL_S_MAX. */
bool silence_action_is_due(const struct silence *silence, int64_t now_ms);
/* Whether messages arrive regularly again, so that the next silence is a new one: not only what the
 * last action has provoked, such as retained messages. */
bool silence_is_over(const struct silence *silence, int64_t now_ms);

#endif
