/* Owns the parsing and matching of selectors. Pure; any thread. */
#include "mqtt/client/client_selector.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/percent.h"
#include "base/text.h"
#include "mqtt/client/client_state.h"
#include "mqtt/client_error.h"

#define VALUE_SHOWN_LEN 64 /* bytes of a value in a fault */

struct selector_term {
    enum client_selector_key key;
    char *label; /* CLIENT_SELECTOR_LABEL; otherwise NULL */
    char *text;  /* what `values` points into */
    char *values[CLIENT_SELECTOR_VALUES_MAX];
    size_t value_count;
};

struct client_selector {
    struct selector_term *terms[CLIENT_SELECTOR_KEYS_MAX]; /* by key, then by label */
    size_t term_count;
};

static const char *const selector_names[CLIENT_SELECTOR_KEY_COUNT] = {
#define SELECTOR_NAME(symbol, name) name,
    CLIENT_SELECTOR_TABLE(SELECTOR_NAME)
#undef SELECTOR_NAME
};

static enum err selector_fault(char fault[CLIENT_SELECTOR_FAULT_LEN], const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static enum err selector_fault(char fault[CLIENT_SELECTOR_FAULT_LEN], const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fault, CLIENT_SELECTOR_FAULT_LEN, format, arguments);
    va_end(arguments);
    return ERR_ARGUMENT;
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* A label is written "label.NAME" or "label[NAME]" (as generated clients do). Its name is not
 * checked. */
static bool selector_find_label(const char *name, const char **label, size_t *label_len) {
    size_t prefix_len = strlen(selector_names[CLIENT_SELECTOR_LABEL]);
    size_t len = strlen(name);
    if (strncmp(name, selector_names[CLIENT_SELECTOR_LABEL], prefix_len - 1) != 0 ||
        len < prefix_len) {
        return false;
    }
    *label = name + prefix_len;
    *label_len = len - prefix_len;
    if (name[prefix_len - 1] == '[' && name[len - 1] == ']') {
        --*label_len;
        return true;
    }
    return name[prefix_len - 1] == '.';
}

/* CLIENT_SELECTOR_KEY_COUNT: none. */
static enum client_selector_key selector_key_of(const char *name, const char **label,
                                                size_t *label_len) {
    *label = NULL;
    if (selector_find_label(name, label, label_len)) {
        return CLIENT_SELECTOR_LABEL;
    }
    int key = 0;
    while (key < CLIENT_SELECTOR_KEY_COUNT &&
           (key == CLIENT_SELECTOR_LABEL || strcmp(name, selector_names[key]) != 0)) {
        key++;
    }
    return (enum client_selector_key)key;
}

bool client_selector_is_key(const char *name) {
    const char *label;
    size_t label_len;
    return selector_key_of(name, &label, &label_len) != CLIENT_SELECTOR_KEY_COUNT;
}

enum client_selector_key client_selector_key_of(const char *name, const char **label) {
    size_t label_len;
    enum client_selector_key key = selector_key_of(name, label, &label_len);
    bool right =
        !*label || ((*label)[label_len] == '\0' && !client_label_name_fault(*label, label_len));
    return right ? key : CLIENT_SELECTOR_KEY_COUNT;
}

const char *client_selector_key_name(enum client_selector_key key) {
    return selector_names[key];
}

/* ---- values ---------------------------------------------------------------------------------- */

static bool selector_state_is_known(const char *shown) {
    for (int state = 0; state < CLIENT_STATE_COUNT; state++) {
        if (strcmp(client_state_shown((enum client_state)state), shown) == 0) {
            return true;
        }
    }
    return false;
}

/* The most similar code, for the text of a fault. */
static const char *selector_similar_error(const char *text) {
    const char *best = NULL;
    size_t best_distance = 0;
    for (int i = CLIENT_ERROR_NONE + 1; i < CLIENT_ERROR_COUNT; i++) {
        const char *code = client_error_code((enum client_error)i);
        size_t distance = text_distance(text, code);
        if (!best || distance < best_distance) {
            best = code;
            best_distance = distance;
        }
    }
    return best;
}

static bool selector_is_broker(const char *text) {
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text) {
        return false;
    }
    long port = 0;
    const char *digit = colon + 1;
    for (; isdigit((unsigned char)*digit) && port <= UINT16_MAX; digit++) {
        port = port * 10 + (*digit - '0');
    }
    return *digit == '\0' && port >= 1 && port <= UINT16_MAX;
}

/* Hosts are stored in lower case. */
static void selector_lower(char *text) {
    for (; *text != '\0'; text++) {
        *text = (char)tolower((unsigned char)*text);
    }
}

static enum err selector_check_value(enum client_selector_key key, const char *name, char *value,
                                     char fault[CLIENT_SELECTOR_FAULT_LEN]) {
    if (key == CLIENT_SELECTOR_STATE && !selector_state_is_known(value)) {
        return selector_fault(fault,
                              "%s: \"%.*s\" is not a state; must be waiting, connecting, online, "
                              "backoff, conflict or paused",
                              name, VALUE_SHOWN_LEN, value);
    }
    if (key == CLIENT_SELECTOR_ERROR && client_error_of_code(value) == CLIENT_ERROR_NONE) {
        return selector_fault(fault,
                              "%s: \"%.*s\" is not the code of an error, such as %s; "
                              "last_error.code of a client is one",
                              name, VALUE_SHOWN_LEN, value, selector_similar_error(value));
    }
    if (key == CLIENT_SELECTOR_BROKER) {
        if (!selector_is_broker(value)) {
            return selector_fault(fault, "%s: \"%.*s\" must be host:port, such as %.*s:1883", name,
                                  VALUE_SHOWN_LEN, value, VALUE_SHOWN_LEN,
                                  strchr(value, ':') ? "broker.example.com" : value);
        }
        selector_lower(value);
    }
    if ((key == CLIENT_SELECTOR_SILENT || key == CLIENT_SELECTOR_DEGRADED) &&
        strcmp(value, "true") != 0 && strcmp(value, "false") != 0) {
        return selector_fault(fault, "%s: must be true or false, not \"%.*s\"", name,
                              VALUE_SHOWN_LEN, value);
    }
    return ERR_OK;
}

/* Cuts the next alternative off, in place, and unescapes it. NULL: a backslash before anything but
 * "," and "\". *rest NULL: it was the last one. */
static char *selector_cut_value(char **rest) {
    char *value = *rest, *to = value, *from = value;
    for (; *from != '\0' && *from != ','; from++) {
        if (*from == '\\' && *++from != ',' && *from != '\\') {
            return NULL;
        }
        *to++ = *from;
    }
    *rest = *from == ',' ? from + 1 : NULL;
    *to = '\0';
    return value;
}

static enum err selector_read_values(struct selector_term *term, const char *name,
                                     char fault[CLIENT_SELECTOR_FAULT_LEN]) {
    for (char *rest = term->text; rest;) {
        char *value = selector_cut_value(&rest);
        if (!value) {
            return selector_fault(fault,
                                  "%s: a backslash must be followed by a comma or a backslash; "
                                  "write \\\\ for one backslash",
                                  name);
        }
        if (value[0] == '\0') {
            return selector_fault(
                fault,
                "%s: has an empty value; must be one or more values, separated by "
                "commas (write \\, for a comma in a value)",
                name);
        }
        if (term->value_count == CLIENT_SELECTOR_VALUES_MAX) {
            return selector_fault(fault, "%s: must have at most %d values", name,
                                  CLIENT_SELECTOR_VALUES_MAX);
        }
        enum err err = selector_check_value(term->key, name, value, fault);
        if (err != ERR_OK) {
            return err;
        }
        term->values[term->value_count++] = value;
    }
    return ERR_OK;
}

/* ---- terms ----------------------------------------------------------------------------------- */

static void selector_term_destroy(struct selector_term *term) {
    if (term) {
        free(term->label);
        free(term->text);
        free(term);
    }
}

/* label NULL: none. */
static struct selector_term *selector_term_create(enum client_selector_key key, const char *label,
                                                  size_t label_len, const char *text) {
    struct selector_term *term = calloc(1, sizeof *term);
    if (!term) {
        return NULL;
    }
    term->key = key;
    term->label = label ? text_copy(label, label_len) : NULL;
    term->text = text_dup(text);
    if (!term->text || (label && !term->label)) {
        selector_term_destroy(term);
        return NULL;
    }
    return term;
}

static int selector_term_compare(const struct selector_term *a, const struct selector_term *b) {
    if (a->key != b->key) {
        return a->key < b->key ? -1 : 1;
    }
    return a->label ? strcmp(a->label, b->label) : 0;
}

/* Takes ownership of the term if it succeeds. */
static enum err selector_insert(struct client_selector *selector, struct selector_term *term,
                                const char *name, char fault[CLIENT_SELECTOR_FAULT_LEN]) {
    if (selector->term_count == CLIENT_SELECTOR_KEYS_MAX) {
        return selector_fault(fault, "a selector must have at most %d keys",
                              CLIENT_SELECTOR_KEYS_MAX);
    }
    size_t at = selector->term_count;
    for (; at > 0; at--) {
        int order = selector_term_compare(selector->terms[at - 1], term);
        if (order == 0) {
            return selector_fault(fault,
                                  "%s: is given twice; give it once, with its alternatives "
                                  "separated by commas",
                                  name);
        }
        if (order < 0) {
            break;
        }
    }
    memmove(&selector->terms[at + 1], &selector->terms[at],
            (selector->term_count - at) * sizeof *selector->terms);
    selector->terms[at] = term;
    selector->term_count++;
    return ERR_OK;
}

static enum err selector_add(struct client_selector *selector, const char *name, const char *text,
                             char fault[CLIENT_SELECTOR_FAULT_LEN]) {
    const char *label;
    size_t label_len;
    enum client_selector_key key = selector_key_of(name, &label, &label_len);
    if (key == CLIENT_SELECTOR_KEY_COUNT) {
        return selector_fault(fault, "%.*s: unknown key; the keys are %s", VALUE_SHOWN_LEN, name,
                              CLIENT_SELECTOR_KEYS);
    }
    const char *wrong = label ? client_label_name_fault(label, label_len) : NULL;
    if (wrong) {
        return selector_fault(fault, "%.*s: the label %s", VALUE_SHOWN_LEN, name, wrong);
    }
    struct selector_term *term = selector_term_create(key, label, label_len, text);
    if (!term) {
        return ERR_MEMORY;
    }
    enum err err = selector_read_values(term, name, fault);
    if (err == ERR_OK) {
        err = selector_insert(selector, term, name, fault);
    }
    if (err != ERR_OK) {
        selector_term_destroy(term);
    }
    return err;
}

/* ---- selectors ------------------------------------------------------------------------------- */

enum err client_selector_parse(const struct client_pair *pairs, size_t count,
                               struct client_selector **out,
                               char fault[CLIENT_SELECTOR_FAULT_LEN]) {
    *out = NULL;
    struct client_selector *selector = calloc(1, sizeof *selector);
    enum err err = selector ? ERR_OK : ERR_MEMORY;
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        err = selector_add(selector, pairs[i].name, pairs[i].value, fault);
    }
    if (err != ERR_OK) {
        client_selector_destroy(selector);
        return err;
    }
    *out = selector;
    return ERR_OK;
}

/* One "key=value". */
static enum err selector_add_encoded(struct client_selector *selector, const char *text, size_t len,
                                     char fault[CLIENT_SELECTOR_FAULT_LEN]) {
    const char *equals = memchr(text, '=', len);
    if (!equals) {
        return selector_fault(fault, "\"%.*s\": must be key=value",
                              text_truncated_len(text, len, VALUE_SHOWN_LEN), text);
    }
    char *name = NULL, *value = NULL;
    enum err err = percent_decode(text, (size_t)(equals - text), true, &name);
    if (err == ERR_OK) {
        err = percent_decode(equals + 1, (size_t)(text + len - equals - 1), true, &value);
    }
    if (err == ERR_OK) {
        err = selector_add(selector, name, value, fault);
    } else if (err == ERR_ARGUMENT) {
        selector_fault(fault, "\"%.*s\": must be UTF-8, percent-encoded",
                       text_truncated_len(text, len, VALUE_SHOWN_LEN), text);
    }
    free(name);
    free(value);
    return err;
}

enum err client_selector_parse_query(const char *query, struct client_selector **out,
                                     char fault[CLIENT_SELECTOR_FAULT_LEN]) {
    struct client_selector *selector;
    enum err err = client_selector_parse(NULL, 0, &selector, fault);
    *out = NULL;
    for (size_t len; err == ERR_OK && *query != '\0'; query += len + (query[len] == '&')) {
        len = strcspn(query, "&");
        err = len > 0 ? selector_add_encoded(selector, query, len, fault) : ERR_OK;
    }
    if (err != ERR_OK) {
        client_selector_destroy(selector);
        return err;
    }
    *out = selector;
    return ERR_OK;
}

void client_selector_destroy(struct client_selector *selector) {
    for (size_t i = 0; selector && i < selector->term_count; i++) {
        selector_term_destroy(selector->terms[i]);
    }
    free(selector);
}

bool client_selector_is_empty(const struct client_selector *selector) {
    return !selector || selector->term_count == 0;
}

bool client_selector_has(const struct client_selector *selector, enum client_selector_key key) {
    size_t count;
    return client_selector_values(selector, key, &count) != NULL;
}

char *const *client_selector_values(const struct client_selector *selector,
                                    enum client_selector_key key, size_t *count) {
    for (size_t i = 0; selector && i < selector->term_count; i++) {
        if (selector->terms[i]->key == key) {
            *count = selector->terms[i]->value_count;
            return selector->terms[i]->values;
        }
    }
    *count = 0;
    return NULL;
}

/* The terms with labels are next to each other. NULL: there are fewer. */
static const struct selector_term *selector_label_term(const struct client_selector *selector,
                                                       size_t index) {
    for (size_t i = 0; selector && i < selector->term_count; i++) {
        if (selector->terms[i]->key == CLIENT_SELECTOR_LABEL && index-- == 0) {
            return selector->terms[i];
        }
    }
    return NULL;
}

const char *client_selector_label(const struct client_selector *selector, size_t index) {
    const struct selector_term *term = selector_label_term(selector, index);
    return term ? term->label : NULL;
}

char *const *client_selector_label_values(const struct client_selector *selector, size_t index,
                                          size_t *count) {
    const struct selector_term *term = selector_label_term(selector, index);
    *count = term ? term->value_count : 0;
    return term ? term->values : NULL;
}

char *client_selector_escape(const char *value) {
    struct buffer escaped;
    buffer_init(&escaped);
    for (; *value != '\0'; value++) {
        if (*value == ',' || *value == '\\') {
            buffer_append(&escaped, "\\", 1);
        }
        buffer_append(&escaped, value, 1);
    }
    return buffer_take(&escaped);
}

static void selector_append_value(struct buffer *query, const char *value) {
    char *escaped = client_selector_escape(value);
    char *encoded = escaped ? percent_encode(escaped) : NULL;
    if (encoded) {
        buffer_append_str(query, encoded);
    } else {
        query->failed = true;
    }
    free(encoded);
    free(escaped);
}

char *client_selector_query(const struct client_selector *selector) {
    struct buffer query;
    buffer_init(&query);
    for (size_t i = 0; selector && i < selector->term_count; i++) {
        const struct selector_term *term = selector->terms[i];
        buffer_printf(&query, "%s%s%s=", i > 0 ? "&" : "", selector_names[term->key],
                      term->label ? term->label : "");
        for (size_t at = 0; at < term->value_count; at++) {
            buffer_append_str(&query, at > 0 ? "," : "");
            selector_append_value(&query, term->values[at]);
        }
    }
    return buffer_take(&query);
}

/* ---- matching -------------------------------------------------------------------------------- */

static bool selector_term_matches(const struct selector_term *term,
                                  const struct client_facts *facts) {
    const char *has = client_facts_get(facts, term->key, term->label);
    for (size_t i = 0; has && i < term->value_count; i++) {
        const char *value = term->values[i];
        if (term->key == CLIENT_SELECTOR_ID_PREFIX ? strncmp(has, value, strlen(value)) == 0
                                                   : strcmp(has, value) == 0) {
            return true;
        }
    }
    return false;
}

bool client_selector_matches(const struct client_selector *selector,
                             const struct client_facts *facts) {
    for (size_t i = 0; selector && i < selector->term_count; i++) {
        if (!selector_term_matches(selector->terms[i], facts)) {
            return false;
        }
    }
    return true;
}
