/* Decides which documents `apply` takes: with a selector, those of clients that match it. */
#include <stdlib.h>
#include <string.h>
#include "apply_internal.h"
#include "base/buffer.h"
#include "mqtt/client/client_selector.h"
#include "node.h"
#include "select.h"

/* Keys that a document decides. The broker of a client with several is the current one. */
static const enum client_selector_key cli_apply_select_keys[] = {
    CLIENT_SELECTOR_LABEL, CLIENT_SELECTOR_ID_PREFIX, CLIENT_SELECTOR_PROFILE};
#define KEYS_ALLOWED "label.NAME, id_prefix and profile"

struct apply_selection {
    struct apply *apply;
    struct client_selector *selector;
    json_t *profile_labels; /* by the name of the profile; null: it has none */
};

/* ---- the selector ---------------------------------------------------------------------------- */

static enum err cli_apply_parse_labels(const struct cli *cli, struct client_selector **out,
                                       char fault[CLIENT_SELECTOR_FAULT_LEN]) {
    struct client_pair pairs[OPTION_REPEAT_MAX];
    size_t n = 0;
    enum err err = ERR_OK;
    for (; cli->labels[n] && err == ERR_OK; n++) {
        const char *equals = strchr(cli->labels[n], '=');
        struct buffer name;
        buffer_init(&name);
        buffer_printf(&name, "%s%.*s", client_selector_key_name(CLIENT_SELECTOR_LABEL),
                      (int)(equals - cli->labels[n]), cli->labels[n]);
        pairs[n] = (struct client_pair){buffer_take(&name), client_selector_escape(equals + 1)};
        err = pairs[n].name && pairs[n].value ? ERR_OK : ERR_MEMORY;
    }
    err = err == ERR_OK ? client_selector_parse(pairs, n, out, fault) : err;
    while (n > 0) {
        free(pairs[--n].name);
        free(pairs[n].value);
    }
    return err;
}

static bool cli_apply_selector_is_allowed(const struct client_selector *selector) {
    for (int key = 0; key < CLIENT_SELECTOR_KEY_COUNT; key++) {
        bool allowed = false;
        for (size_t i = 0; i < sizeof cli_apply_select_keys / sizeof *cli_apply_select_keys; i++) {
            allowed = allowed || cli_apply_select_keys[i] == (enum client_selector_key)key;
        }
        if (!allowed && client_selector_has(selector, (enum client_selector_key)key)) {
            cli_error(
                "--selector: %s is not in a document; the keys for documents are " KEYS_ALLOWED,
                client_selector_key_name((enum client_selector_key)key));
            return false;
        }
    }
    return true;
}

/* *out NULL: none is given, or an error was printed. */
static enum cli_exit cli_apply_read_selector(const struct cli *cli, struct client_selector **out) {
    char fault[CLIENT_SELECTOR_FAULT_LEN] = "not enough memory";
    const char *query = cli->values[OPT_SELECTOR];
    *out = NULL;
    if (!query && !cli->labels[0]) {
        return CLI_OK;
    }
    enum cli_exit code = cli_select_check(cli);
    if (code != CLI_OK) {
        return code;
    }
    enum err err = query ? client_selector_parse_query(query, out, fault)
                         : cli_apply_parse_labels(cli, out, fault);
    if (err != ERR_OK) {
        cli_error("--%s: %s", query ? "selector" : "label", fault);
        return err == ERR_MEMORY ? CLI_FAILED : CLI_INVALID;
    }
    if (!cli_apply_selector_is_allowed(*out)) {
        client_selector_destroy(*out);
        *out = NULL;
        return CLI_INVALID;
    }
    return CLI_OK;
}

/* ---- what a document has --------------------------------------------------------------------- */

/* The labels that the profile gives its clients: as in its document, otherwise as in the fleet.
 * Borrowed; NULL: none. */
static const json_t *cli_apply_profile_labels(struct apply_selection *selection, const char *name) {
    const json_t *known = json_object_get(selection->profile_labels, name);
    if (known) {
        return known;
    }
    struct cli_answer answer;
    char *path = cli_node_path("client-profiles", name, "");
    cli_node_call(selection->apply->cli, "GET", path ? path : "/", NULL, 5000, &answer);
    json_t *labels = json_object_get(json_object_get(answer.json, "config"), "labels");
    json_object_set(selection->profile_labels, name, labels ? labels : json_null());
    if (!cli_answer_succeeded(&answer) && answer.status != 404) { /* then the client fails */
        selection->apply->code = cli_answer_explain(&answer, name);
    }
    cli_answer_fini(&answer);
    free(path);
    return json_object_get(selection->profile_labels, name);
}

static bool cli_apply_labels_match(const struct client_selector *selector,
                                   struct client_facts *facts, json_t *labels) {
    struct client_pair *pairs = calloc(json_object_size(labels) + 1, sizeof *pairs);
    const char *name;
    json_t *value;
    json_object_foreach(labels, name, value) {
        if (pairs && json_is_string(value)) {
            pairs[facts->label_count++] = (struct client_pair){
                (char *)(uintptr_t)name, (char *)(uintptr_t)json_string_value(value)};
        }
    }
    facts->labels = pairs;
    bool matches = client_selector_matches(selector, facts);
    free(pairs);
    return matches;
}

static bool cli_apply_document_matches(struct apply_selection *selection,
                                       const struct manifest_item *item) {
    struct client_facts facts = {.id = item->name,
                                 .profile = cli_json_text(item->document, "profile")};
    json_t *labels = json_object();
    if (facts.profile && facts.profile[0] != '\0' &&
        client_selector_label(selection->selector, 0)) {
        json_object_update(labels,
                           (json_t *)(uintptr_t)cli_apply_profile_labels(selection, facts.profile));
    }
    json_object_update(labels, json_object_get(item->document, "labels"));
    bool matches = cli_apply_labels_match(selection->selector, &facts, labels);
    json_decref(labels);
    return matches;
}

/* ---- the documents --------------------------------------------------------------------------- */

static void cli_apply_note_profiles(struct apply_selection *selection) {
    const struct manifest *manifest = &selection->apply->manifest;
    for (size_t i = 0; i < manifest->count; i++) {
        json_t *labels = json_object_get(manifest->items[i].document, "labels");
        if (manifest->items[i].kind == MANIFEST_PROFILE) {
            json_object_set(selection->profile_labels, manifest->items[i].name,
                            labels ? labels : json_null());
        }
    }
}

static void cli_apply_keep_matching(struct apply_selection *selection) {
    struct manifest *manifest = &selection->apply->manifest;
    size_t kept = 0;
    for (size_t i = 0; i < manifest->count; i++) {
        struct manifest_item *item = &manifest->items[i];
        if (item->kind == MANIFEST_CLIENT && !cli_apply_stopped(selection->apply) &&
            cli_apply_document_matches(selection, item)) {
            manifest->items[kept++] = *item;
        } else {
            json_decref(item->document);
            free(item->name);
        }
    }
    manifest->count = kept;
}

bool cli_apply_select(struct apply *apply) {
    struct apply_selection selection = {.apply = apply};
    apply->code = cli_apply_read_selector(apply->cli, &selection.selector);
    if (selection.selector) {
        selection.profile_labels = json_object();
        cli_apply_note_profiles(&selection);
        cli_apply_keep_matching(&selection);
    }
    json_decref(selection.profile_labels);
    client_selector_destroy(selection.selector);
    return apply->code == CLI_OK;
}
