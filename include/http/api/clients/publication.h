/* Parses the body of .../publish for an engine. Pure functions; any thread. */
#ifndef MQFLEET_CLIENTS_PUBLICATION_H
#define MQFLEET_CLIENTS_PUBLICATION_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include "mqtt/config/client_config.h"
#include "mqtt/engine.h"

#define PUBLICATION_PROPERTIES_MAX 64

struct publication_input {
    struct engine_publication publication; /* borrows from the document and from below */
    struct message_property properties[PUBLICATION_PROPERTIES_MAX];
    uint8_t *payload;          /* decoded from base64 */
    uint8_t *correlation;      /* decoded from base64 */
    char numbers[2][24];       /* of the two numeric properties */
    char property_pointer[64]; /* of the first property; "" none */
    struct client_faults faults;
};

/* document: an object that must outlive the result. Check faults.count before use. NULL: out of
 * memory. */
struct publication_input *publication_parse(json_t *document);
void publication_destroy(struct publication_input *input);

#endif
