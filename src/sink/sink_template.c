/* Owns how the faults of templates name their field. Pure. */
#include "sink/sink_template.h"

#include <stdio.h>

enum err sink_template_compile(struct template **out, const char *field, const char *text,
                               char *fault) {
    char why[MESSAGE_FAULT_LEN];
    enum err err = template_compile(out, text, why);
    if (err == ERR_ARGUMENT) {
        snprintf(fault, SINK_FAULT_LEN, "%.63s %.190s", field, why);
    }
    return err;
}

enum err sink_template_init(struct sink_template *template,
                            const struct sink_environment *environment, const json_t *settings,
                            const char *field, char *fault) {
    *template = (struct sink_template){.field = field, .node = environment->node};
    return sink_template_compile(&template->template, field, sink_settings_text(settings, field),
                                 fault);
}

void sink_template_fini(struct sink_template *template) {
    template_destroy(template->template);
    template->template = NULL;
}

enum err sink_template_render(const struct sink_template *template, const struct message *message,
                              struct buffer *out, char *reason) {
    char missing[MESSAGE_FAULT_LEN];
    struct message_view view;
    message_view_init(&view, message, template->node);
    enum err err = template_render(template->template, &view, out, missing);
    message_view_fini(&view);
    if (err == ERR_NOT_FOUND) {
        snprintf(reason, SINK_REASON_LEN, "%.40s: %.110s", template->field, missing);
    }
    return err;
}
