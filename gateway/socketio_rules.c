/* gateway/socketio_rules.c: what the events of Socket.IO clients mean. */
#include "gateway/socketio_rules.h"

#include "base/log.h"
#include "base/mem.h"
#include "gateway/policy.h"

#define LINE_MAX_SHOWN 60

struct sio_rules {
    size_t count;
    struct sio_rule rules[];
};

bool sio_verb_find(struct slice name, enum command_kind *ret)
{
    enum command_kind kind;
    if (!command_find(name, &kind) || kind == CMD_RESUME)
        return false;
    *ret = kind;
    return true;
}

/* The next word of *rest; empty at the end. */
static struct slice next_word(struct slice *rest)
{
    size_t n = 0;
    while (rest->n != 0 && (rest->p[0] == ' ' || rest->p[0] == '\t'))
        *rest = slice_from(*rest, 1);
    while (n < rest->n && rest->p[n] != ' ' && rest->p[n] != '\t')
        n++;
    struct slice word = {rest->p, n};
    *rest = slice_from(*rest, n);
    return word;
}

static bool read_do(struct slice value, struct sio_rule *r)
{
    if (slice_eq(value, SLICE("relay")))
        r->action = SIO_DO_RELAY;
    else if (slice_eq(value, SLICE("backend")))
        r->action = SIO_DO_BACKEND;
    else if (slice_eq(value, SLICE("refuse")))
        r->action = SIO_DO_REFUSE;
    else if (slice_eq(value, SLICE("verb")))
        r->action = SIO_DO_NAMED;
    else if (sio_verb_find(value, &r->verb))
        r->action = SIO_DO_VERB;
    else
        return false;
    return true;
}

static bool read_to(struct slice value, struct sio_rule *r)
{
    r->to_namespace = slice_eq(value, SLICE("namespace"));
    return r->to_namespace || slice_eq(value, SLICE("rooms"));
}

static bool read_echo(struct slice value, struct sio_rule *r)
{
    r->echo = slice_eq(value, SLICE("on"));
    return r->echo || slice_eq(value, SLICE("off"));
}

static const struct {
    const char *key;
    bool (*read)(struct slice value, struct sio_rule *r);
    const char *expects;
} keys[] = {
    {"do", read_do, "relay, backend, refuse, verb, or the name of a room verb"},
    {"to", read_to, "rooms or namespace"},
    {"echo", read_echo, "on or off"},
};

static enum err read_pair(struct slice word, const char *line, struct sio_rule *r, bool *ret_do, struct error *reterr)
{
    const char *equals = memchr(word.p, '=', word.n);
    size_t n = equals != NULL ? (size_t)(equals - word.p) : word.n;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (!slice_eq((struct slice){word.p, n}, slice_str(keys[i].key)))
            continue;
        if (equals == NULL || !keys[i].read(slice_from(word, n + 1), r))
            return fail(reterr, ERR_BAD_REQUEST, "socketio-event \"%.*s\": %s must be %s", LINE_MAX_SHOWN, line,
                        keys[i].key, keys[i].expects);
        *ret_do = *ret_do || i == 0;
        return OK;
    }
    return fail(reterr, ERR_BAD_REQUEST, "socketio-event \"%.*s\": no such key as \"%.*s\"; there are do, to and echo",
                LINE_MAX_SHOWN, line, (int)(n < LINE_MAX_SHOWN ? n : LINE_MAX_SHOWN), word.p);
}

static enum err read_line(const char *line, struct sio_rule *r, struct error *reterr)
{
    struct slice rest = slice_str(line), pattern = next_word(&rest), word;
    const char *comma = pattern.n != 0 && pattern.p[0] == '/' ? memchr(pattern.p, ',', pattern.n) : NULL;
    bool has_do = false;
    if (comma != NULL) {
        r->nsp = xstrndup(pattern.p, (size_t)(comma - pattern.p));
        pattern = slice_from(pattern, (size_t)(comma + 1 - pattern.p));
    }
    if (pattern.n == 0)
        return fail(reterr, ERR_BAD_REQUEST, "socketio-event \"%.*s\" does not begin with the pattern of an event",
                    LINE_MAX_SHOWN, line);
    r->event = xstrndup(pattern.p, pattern.n);
    r->echo = true;
    while ((word = next_word(&rest)).n != 0) {
        enum err err = read_pair(word, line, r, &has_do, reterr);
        if (err != OK)
            return err;
    }
    if (!has_do)
        return fail(reterr, ERR_BAD_REQUEST, "socketio-event \"%.*s\" does not say what to do: do=… is missing",
                    LINE_MAX_SHOWN, line);
    return OK;
}

struct sio_rules *sio_rules_create(char *const *lines, size_t count, struct error *reterr)
{
    struct sio_rules *r = xcalloc(1, sizeof *r + count * sizeof *r->rules);
    for (size_t i = 0; i < count; i++) {
        r->count++;
        if (read_line(lines[i], &r->rules[i], reterr) != OK) {
            sio_rules_destroy(&r);
            return NULL;
        }
    }
    return r;
}

void sio_rules_destroy(struct sio_rules **rp)
{
    struct sio_rules *r = TAKE(*rp);
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->count; i++) {
        free(r->rules[i].nsp);
        free(r->rules[i].event);
    }
    free(r);
}

const struct sio_rule *sio_rules_find(const struct sio_rules *r, struct slice nsp, struct slice event)
{
    static const struct sio_rule own = {.action = SIO_DO_NAMED};
    for (size_t i = 0; i < r->count; i++) {
        const struct sio_rule *rule = &r->rules[i];
        if ((rule->nsp == NULL || policy_match(rule->nsp, nsp)) && policy_match(rule->event, event))
            return rule;
    }
    return &own;
}
