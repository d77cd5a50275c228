/* Owns the table of loaded modules. */
#include "sink/sink_types.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MODULES_MAX  32
#define NAME_LEN_MAX 40

static pthread_mutex_t types_lock = PTHREAD_MUTEX_INITIALIZER; /* guards all below */
static const struct sink_type *types_loaded[MODULES_MAX];
static size_t types_loaded_count;

static const struct sink_type *types_find_built_in(const char *name) {
    for (size_t i = 0; sink_types_built_in[i]; i++) {
        if (strcmp(sink_types_built_in[i]->name, name) == 0) {
            return sink_types_built_in[i];
        }
    }
    return NULL;
}

/* Locked. */
static const struct sink_type *types_find_loaded(const char *name) {
    for (size_t i = 0; i < types_loaded_count; i++) {
        if (strcmp(types_loaded[i]->name, name) == 0) {
            return types_loaded[i];
        }
    }
    return NULL;
}

static const struct sink_module *types_find_module(const char *name) {
    for (const struct sink_module *module = sink_types_modules; module->name; module++) {
        if (strcmp(module->name, name) == 0) {
            return module;
        }
    }
    return NULL;
}

/* Part of a path: no slash, no dot. */
static bool types_is_name(const char *name) {
    size_t len = strlen(name);
    return len > 0 && len <= NAME_LEN_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == len;
}

static void types_append(char *fault, const char *name) {
    size_t len = strlen(fault);
    snprintf(fault + len, SINK_FAULT_LEN - len, " %s", name);
}

static void types_explain_unknown(const char *name, char *fault) {
    if (name) {
        snprintf(fault, SINK_FAULT_LEN, "type %.60s is unknown; it must be one of", name);
    } else {
        snprintf(fault, SINK_FAULT_LEN, "type is missing; it must be one of");
    }
    for (size_t i = 0; sink_types_built_in[i]; i++) {
        types_append(fault, sink_types_built_in[i]->name);
    }
    for (const struct sink_module *module = sink_types_modules; module->name; module++) {
        types_append(fault, module->name);
    }
}

/* ---- loading --------------------------------------------------------------------------------- */

/* The first of these places that has the file; false: none. */
static bool types_locate(const char *name, char *path, size_t size) {
    static const char *const places[] = {"sinks", "../lib/mqfleet/sinks"};
    char program[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    if (len <= 0) {
        return false;
    }
    program[len] = '\0';
    *strrchr(program, '/') = '\0';
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        int needed = snprintf(path, size, "%s/%s/%s.so", program, places[i], name);
        if (needed > 0 && (size_t)needed < size && access(path, F_OK) == 0) {
            return true;
        }
    }
    return false;
}

static void types_explain_missing(const char *name, char *fault) {
    const struct sink_module *module = types_find_module(name);
    if (!module) {
        types_explain_unknown(name, fault);
        return;
    }
    snprintf(fault, SINK_FAULT_LEN,
             "type %s needs the module sinks/%s.so, which is not installed; a build with the "
             "package %.60s has it",
             name, name, module->packages);
}

static void types_explain_unloaded(const char *name, char *fault) {
    const struct sink_module *module = types_find_module(name);
    snprintf(fault, SINK_FAULT_LEN, "type %s cannot be loaded: %.120s%s%.60s", name, dlerror(),
             module ? "; it needs the package " : "", module ? module->run_packages : "");
}

static const struct sink_type *types_check(const struct sink_type *type, const char *path,
                                           char *fault) {
    if (!type) {
        snprintf(fault, SINK_FAULT_LEN, "type %.120s is not a module of mqfleet", path);
        return NULL;
    }
    if (strcmp(type->version, MQFLEET_VERSION) != 0) {
        snprintf(fault, SINK_FAULT_LEN,
                 "type %.120s is of mqfleet %.20s, and this is " MQFLEET_VERSION, path,
                 type->version);
        return NULL;
    }
    return type;
}

/* Locked. */
static const struct sink_type *types_load(const char *name, char *fault) {
    char path[PATH_MAX + 64] = "";
    char symbol[NAME_LEN_MAX + 16];
    if (!types_locate(name, path, sizeof path)) {
        types_explain_missing(name, fault);
        return NULL;
    }
    if (types_loaded_count == MODULES_MAX) {
        snprintf(fault, SINK_FAULT_LEN, "type %s: %d modules are loaded already", name,
                 MODULES_MAX);
        return NULL;
    }
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module) {
        types_explain_unloaded(name, fault);
        return NULL;
    }
    snprintf(symbol, sizeof symbol, "sink_type_%s", name);
    const struct sink_type *type = types_check(dlsym(module, symbol), path, fault);
    if (!type) {
        dlclose(module);
        return NULL;
    }
    types_loaded[types_loaded_count++] = type;
    return type;
}

const struct sink_type *sink_types_find(const char *name, char *fault) {
    const struct sink_type *type = name ? types_find_built_in(name) : NULL;
    if (type) {
        return type;
    }
    if (!name || !types_is_name(name)) {
        types_explain_unknown(name, fault);
        return NULL;
    }
    pthread_mutex_lock(&types_lock);
    type = types_find_loaded(name);
    type = type ? type : types_load(name, fault);
    pthread_mutex_unlock(&types_lock);
    return type;
}
