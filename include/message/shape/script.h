/* A function in Lua 5.4 from a message to none, one or several:
 *
 *   return function(m)
 *       local v = json.decode(m.payload)
 *       if v.t < 0 then return nil end
 *       m.payload = json.encode({celsius = v.t})
 *       return m
 *   end
 *
 * m: id, client_id, topic, payload, qos, retain, received_at_ms, broker, labels, user_properties.
 * Its result may change topic, payload and user_properties; everything else stays. It runs with the
 * libraries string, table, math, utf8 and json, without their unsafe functions: nothing reaches
 * files, other scripts or other messages, and time and memory are limited.
 *
 * Scripts run on any thread; each thread has one Lua state, with an environment for each script. */
#ifndef MQFLEET_SHAPE_SCRIPT_H
#define MQFLEET_SHAPE_SCRIPT_H

#include "base/err.h"
#include "message/message.h"

#define SCRIPT_FAULT_LEN        256
#define SCRIPT_TEXT_MAX         65536   /* bytes */
#define SCRIPT_MESSAGES_MAX     64      /* from one message */
#define SCRIPT_INSTRUCTIONS_MAX 1000000 /* for one message */
#define SCRIPT_CPU_MS_MAX       50      /* for one message; checked every 100 instructions */
#define SCRIPT_PAYLOAD_COPIES   8       /* for which there is memory, too */
#define SCRIPT_MEMORY_MAX       4194304 /* bytes of a thread's state, and of what a message becomes */

struct script;

/* ERR_ARGUMENT: fault (SCRIPT_FAULT_LEN) says what is wrong, with the line. */
enum err script_create(struct script **out, const char *text, char *fault) MUST_CHECK;
/* When no thread runs it. NULL is legal. */
void script_destroy(struct script *script);

/* out: room for SCRIPT_MESSAGES_MAX; *count of them are new. ERR_ARGUMENT: the script failed, fault
 * (SCRIPT_FAULT_LEN) says why. ERR_MEMORY: the process has none. */
enum err script_run(const struct script *script, const struct message *message,
                    struct message **out, size_t *count, char *fault) MUST_CHECK;

#endif
