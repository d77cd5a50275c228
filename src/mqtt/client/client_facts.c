/* No state. */
#include "mqtt/client/client_facts.h"

#include <stdio.h>
#include <string.h>
#include "mqtt/config/client_profile.h"

void client_facts_set_config(struct client_facts *facts, const struct client_config *config,
                             char broker[CLIENT_BROKER_LEN]) {
    facts->labels = config->labels;
    facts->label_count = config->label_count;
    facts->profile = config->profile ? config->profile->name : NULL;
    if (!facts->broker) {
        snprintf(broker, CLIENT_BROKER_LEN, "%s:%u", config->host, config->port);
        facts->broker = broker;
    }
}

static const char *client_facts_label(const struct client_facts *facts, const char *label) {
    for (size_t i = 0; i < facts->label_count; i++) {
        if (strcmp(facts->labels[i].name, label) == 0) {
            return facts->labels[i].value;
        }
    }
    return NULL;
}

const char *client_facts_get(const struct client_facts *facts, enum client_selector_key key,
                             const char *label) {
    switch (key) {
    case CLIENT_SELECTOR_STATE:
        return facts->state;
    case CLIENT_SELECTOR_ERROR:
        return facts->error;
    case CLIENT_SELECTOR_BROKER:
        return facts->broker;
    case CLIENT_SELECTOR_NODE:
        return facts->node;
    case CLIENT_SELECTOR_LABEL:
        return client_facts_label(facts, label);
    case CLIENT_SELECTOR_ID_PREFIX:
        return facts->id;
    case CLIENT_SELECTOR_PROFILE:
        return facts->profile;
    case CLIENT_SELECTOR_SILENT:
        return facts->silent ? "true" : "false";
    case CLIENT_SELECTOR_DEGRADED:
        return facts->degraded ? "true" : "false";
    case CLIENT_SELECTOR_KEY_COUNT:
        break;
    }
    return NULL;
}
