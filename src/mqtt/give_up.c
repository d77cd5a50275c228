/* Owns the table of reasons for giving publications up. Pure. */
#include "mqtt/give_up.h"

#include <assert.h>

static const struct give_up_row {
    const char *label, *text;
    enum metric metric;
} give_up_rows[] = {
#define GIVE_UP_ROW(symbol, label, metric, text) [symbol] = {label, text, metric},
    GIVE_UP_TABLE(GIVE_UP_ROW)
#undef GIVE_UP_ROW
};

static const struct give_up_row *give_up_row_of(enum give_up reason) {
    assert(reason < GIVE_UP_COUNT);
    return &give_up_rows[reason];
}

const char *give_up_label(enum give_up reason) {
    return give_up_row_of(reason)->label;
}

const char *give_up_text(enum give_up reason) {
    return give_up_row_of(reason)->text;
}

enum metric give_up_metric(enum give_up reason) {
    return give_up_row_of(reason)->metric;
}
