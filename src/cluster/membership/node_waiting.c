/* What follows from the counts of waiting clients. Any thread. */
#include <jansson.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "cluster/membership/node.h"

int64_t node_unexplained_waiting(struct node *node) {
    char text[STORE_UNPLACED_LEN];
    struct store_counts counts;
    const char *reason;
    json_t *count;
    node_unplaced_json(node, text);
    if (!node_fleet_counts(node, &counts)) {
        return 1;
    }
    json_t *unplaced = json_from_text(text, strlen(text), 0);
    int64_t left = counts.waiting;
    json_object_foreach(unplaced, reason, count) {
        left -= json_integer_value(count);
    }
    json_decref(unplaced);
    return left > 0 ? left : 0;
}
