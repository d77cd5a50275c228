/* Owns how the configuration and its reference are shown. Any thread. Never shows a secret. */
#include "conf_loader.h"

#include <string.h>

static const char PLAIN[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-";

/* Plain if every YAML reader takes it as text, otherwise in double quotes. */
static void conf_print_text(const char *text, FILE *out) {
    bool plain =
        text[0] != '\0' && text[0] != '-' && text[0] != '.' && text[strspn(text, PLAIN)] == '\0';
    if (plain) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\') {
            fputc('\\', out);
        }
        fputc(*at, out);
    }
    fputc('"', out);
}

/* Only the credentials of a URL are secret. --config accepts the URL with hidden credentials. */
static void conf_print_url(const char *url, FILE *out) {
    const char *credentials = strstr(url, "://");
    const char *at_sign = strrchr(url, '@');
    if (!credentials || !at_sign) {
        conf_print_text(url, out);
        return;
    }
    fprintf(out, "\"%.*s://***:***%s\"", (int)(credentials - url), url, at_sign);
}

static void conf_print_secret(const struct conf_setting *setting, const char *text, FILE *out) {
    if (setting == &conf_settings[CONF_redis_url] || setting == &conf_settings[CONF_sink_url]) {
        conf_print_url(text, out);
    } else {
        fputs(text[0] != '\0' ? "\"***\"" : "\"\"", out);
    }
}

static void conf_print_value(const struct conf *conf, const struct conf_setting *setting,
                             FILE *out) {
    if (setting->type == CONF_INT) {
        fprintf(out, "%lld", (long long)*conf_int_field(conf, setting));
    } else if (setting->type == CONF_BOOL) {
        fputs(*conf_bool_field(conf, setting) ? "true" : "false", out);
    } else if ((setting->flags & CONF_SECRET) != 0) {
        conf_print_secret(setting, *conf_text_field(conf, setting), out);
    } else {
        conf_print_text(*conf_text_field(conf, setting), out);
    }
}

/* The length of "group" in "group.setting", 0 without a group. */
static size_t conf_print_group_len(const char *name) {
    const char *dot = strchr(name, '.');
    return dot ? (size_t)(dot - name) : 0;
}

static bool conf_print_same_group(const char *left, const char *right) {
    size_t len = conf_print_group_len(left);
    return len == conf_print_group_len(right) && strncmp(left, right, len) == 0;
}

static void conf_print_setting(const struct conf *conf, const struct conf_setting *setting,
                               FILE *out) {
    size_t prefix_len = conf_print_group_len(setting->name);
    /* The URL derived from redis_config.host is shown as a comment, since only one of both may be
     * set. */
    bool computed = setting == &conf_settings[CONF_redis_url] && conf->redis_host[0] != '\0';
    fprintf(out, "%s%s%s: ", prefix_len > 0 ? "  " : "", computed ? "# " : "",
            setting->name + (prefix_len > 0 ? prefix_len + 1 : 0));
    conf_print_value(conf, setting, out);
    fputc('\n', out);
}

static void conf_print_group(const struct conf *conf, size_t first, FILE *out) {
    const char *name = conf_settings[first].name;
    fprintf(out, "%.*s:\n", (int)conf_print_group_len(name), name);
    for (size_t i = first; i < CONF_COUNT; i++) {
        if (conf_print_same_group(name, conf_settings[i].name)) {
            conf_print_setting(conf, &conf_settings[i], out);
        }
    }
}

static bool conf_print_group_is_new(size_t index) {
    for (size_t i = 0; i < index; i++) {
        if (conf_print_same_group(conf_settings[i].name, conf_settings[index].name)) {
            return false;
        }
    }
    return true;
}

void conf_print(const struct conf *conf, FILE *out) {
    for (size_t i = 0; i < CONF_COUNT; i++) {
        if (conf_print_group_len(conf_settings[i].name) == 0) {
            conf_print_setting(conf, &conf_settings[i], out);
        } else if (conf_print_group_is_new(i)) {
            conf_print_group(conf, i, out);
        }
    }
}

/* Escapes text for a cell of a Markdown table. */
static void conf_print_cell(const char *text, FILE *out) {
    for (const char *at = text; *at != '\0'; at++) {
        if (strchr("|<>*_\\", *at)) {
            fputc('\\', out);
        }
        fputc(*at, out);
    }
}

static void conf_print_choices(const char *choices, FILE *out) {
    fputc('`', out);
    for (const char *at = choices; *at != '\0'; at++) {
        if (*at == '|') {
            fputs("`, `", out);
        } else {
            fputc(*at, out);
        }
    }
    fputc('`', out);
}

static void conf_print_bounds(const struct conf_setting *setting, FILE *out) {
    switch (setting->type) {
    case CONF_INT:
        fprintf(out, "%lld to %lld", (long long)setting->min, (long long)setting->max);
        break;
    case CONF_ENUM:
        conf_print_choices(setting->choices, out);
        break;
    case CONF_BOOL:
        conf_print_choices("true|false", out);
        break;
    case CONF_LIST:
        fputs("list", out);
        break;
    case CONF_STR:
        fputs((setting->flags & CONF_SECRET) != 0 ? "text, secret" : "text", out);
        break;
    }
}

void conf_print_reference(FILE *out) {
    fputs("| setting | default | bounds or choices | unit | meaning |\n|---|---|---|---|---|\n",
          out);
    for (size_t i = 0; i < CONF_COUNT; i++) {
        const struct conf_setting *setting = &conf_settings[i];
        bool empty = setting->default_text[0] == '\0';
        fprintf(out, "| `%s` | %s%s%s | ", setting->name, empty ? "" : "`", setting->default_text,
                empty ? "" : "`");
        conf_print_bounds(setting, out);
        fprintf(out, " | %s | ", setting->unit ? setting->unit : "");
        conf_print_cell(setting->help, out);
        fputs(" |\n", out);
    }
    fputs("| `sinks` |  | map |  | further sinks of this node: fields by name (docs/sinks.md) |\n",
          out);
}
