/* Owns the table of settings that SIGHUP applies. Main thread. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "app.h"
#include "base/buffer.h"
#include "base/config/system_limits.h"
#include "base/system/notify.h"
#include "base/secrets/client_file.h"
#include "http/server/certificate.h"
#include "net/redis/redis_tls.h"

#define NAMES_MAX 256 /* more than the number of settings */

void app_set_logging(const struct conf *level_of, const struct conf *format_of) {
    enum log_level level = LOG_INFO;
    enum log_format format = LOG_LOGFMT;
    log_level_parse(level_of->log_level, &level); /* both have been checked */
    log_format_parse(format_of->log_format, &format);
    log_setup(level, format);
}

static enum err reload_log_level(struct app *app, const struct conf *fresh, char *fault) {
    (void)fault;
    app_set_logging(fresh, app->conf);
    return ERR_OK;
}

static enum err reload_secrets(struct app *app, const struct conf *fresh, char *fault) {
    char detail[SECRET_BOX_FAULT_LEN] = "";
    if (fresh->secrets_key_file[0] == '\0' && secret_box_key_count(app->secrets) > 0) {
        /* The file may be in the process of being written. */
        snprintf(fault, FAULT_LEN, "is no longer set: encryption ends only with a restart");
        return ERR_ARGUMENT;
    }
    /* Before it encrypts anything; the previous file stays protected as well. */
    if (!client_file_guard_own(fresh)) {
        snprintf(fault, FAULT_LEN, "changed too often: restart the node");
        return ERR_FULL;
    }
    enum err err = secret_box_load(app->secrets, fresh->secrets_key_file, detail);
    snprintf(fault, FAULT_LEN, "%s", detail);
    return err;
}

static enum err reload_tokens(struct app *app, const struct conf *fresh, char *fault) {
    (void)fresh;
    enum err err = access_reload(app->access, fault);
    if (err == ERR_OK && access_requires_token(app->access)) {
        http_server_end_open_streams(app->http); /* a removed token must not keep its streams */
    }
    return err;
}

static enum err reload_fleet_secret(struct app *app, const struct conf *fresh, char *fault) {
    (void)fresh;
    return fleet_secret_reload(access_fleet_secret(app->access), fault);
}

static enum err reload_certificate(struct app *app, const struct conf *fresh, char *fault) {
    const struct conf *conf = app->conf;
    (void)fresh;
    return conf->http_tls_cert_file[0] != '\0'
               ? http_certificate_load(conf->http_tls_cert_file, conf->http_tls_key_file, fault)
               : ERR_OK;
}

/* Open connections are not affected. */
static enum err reload_redis_tls(struct app *app, const struct conf *fresh, char *fault) {
    const struct conf *conf = app->conf;
    (void)fresh;
    return redis_tls_load(conf->redis_tls_ca_file, conf->redis_tls_cert_file,
                          conf->redis_tls_key_file, fault);
}

/* The effects of SIGHUP, one row each: a setting that takes effect at once ("": none), and the file
 * that it names, which is read again. If a file cannot be read, its old contents stay in effect. */
static const struct {
    const char *setting;
    bool value_reloadable; /* a new value of the setting itself is applied as well */
    enum err (*reload)(struct app *app, const struct conf *fresh, char *fault);
} reloads[] = {
    {"log.level", true, reload_log_level},
    {"secrets.key_file", true, reload_secrets},
    {"http.tokens_file", false, reload_tokens},
    {"fleet.secret_file", false, reload_fleet_secret},
    {"http.tls_cert_file", false, reload_certificate},
    {"redis_config.tls_cert_file", false, reload_redis_tls},
};

#define RELOAD_COUNT (sizeof(reloads) / sizeof(reloads[0]))

static bool reload_is_applied(const char *setting) {
    for (size_t i = 0; i < RELOAD_COUNT; i++) {
        if (reloads[i].value_reloadable && strcmp(reloads[i].setting, setting) == 0) {
            return true;
        }
    }
    return false;
}

/* Logs every changed setting that has no effect yet. Compares with the settings of the start, so
 * that each reload reports it. */
static void reload_report_restart_needed(const struct app *app, const struct conf *fresh) {
    const char *names[NAMES_MAX];
    struct buffer list;
    size_t n = conf_differences(app->conf, fresh, names, NAMES_MAX);
    buffer_init(&list);
    for (size_t i = 0; i < n; i++) {
        if (!reload_is_applied(names[i])) {
            buffer_printf(&list, "%s%s", list.len > 0 ? " " : "", names[i]);
        }
    }
    if (list.len > 0) {
        log_event(LOG_WARN, "reload_needs_restart", KS("settings", list.data));
    }
    buffer_fini(&list);
}

static int64_t reload_monotonic_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC,
                  &now); /* the service manager's own clock, not the one of tests */
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* If the settings cannot be read, the old ones stay in effect. The files that they name are read
 * again nevertheless, so that a token can be removed. */
void app_reload(struct app *app) {
    struct conf *fresh = NULL;
    notify_send("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)reload_monotonic_us());
    char fault[FAULT_LEN > CONF_FAULT_LEN ? FAULT_LEN : CONF_FAULT_LEN];
    bool failed = conf_load(&fresh, app->origin.config, app->origin.sets, app->origin.set_count,
                            fault) != ERR_OK;
    if (failed) {
        log_event(LOG_ERROR, "reload_failed", KS("detail", fault));
    }
    if (fresh) {
        (void)system_limits_fit_files(fresh, system_limits_raise_files()); /* as at the start */
        conf_destroy(app->reloaded);
        app->reloaded = fresh;
    }
    const struct conf *in_force = app->reloaded ? app->reloaded : app->conf;
    for (size_t i = 0; i < RELOAD_COUNT; i++) {
        fault[0] = '\0';
        if (reloads[i].reload(app, in_force, fault) != ERR_OK) {
            log_event(LOG_ERROR, "reload_failed", KS("setting", reloads[i].setting),
                      KS("detail", fault));
            failed = true;
        }
    }
    if (fresh) {
        reload_report_restart_needed(app, fresh);
    }
    log_event(failed ? LOG_WARN : LOG_INFO, "reloaded", KS("node", app->conf->node_name),
              KS("in_part", failed ? "true" : NULL));
    notify_send("READY=1%s", failed ? "\nSTATUS=reloaded in part: see the log" : "");
}
