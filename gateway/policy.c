/* gateway/policy.c: parses the policy lines and finds the one for a room. */
#include "gateway/policy.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "broker/broker.h"
#include "gateway/config_value.h"

#define PATTERN_MAX 255 /* as long as a room name */

struct policies {
    struct policy *list; /* the lines, then the implicit ones for $* and * */
    size_t count;
};

/* --- matching --- */

/* Bytes of the character at s.p[at]; 1 inside or in front of malformed ones. */
static size_t character(struct slice s, size_t at)
{
    size_t end = at + 1;
    while (end < s.n && ((unsigned char)s.p[end] & 0xc0) == 0x80)
        end++;
    return end - at;
}

bool policy_match(const char *pattern, struct slice name)
{
    const char *p = pattern, *star = NULL;
    size_t at = 0, resume = 0;
    while (at < name.n) {
        if (*p == '*') {
            star = ++p;
            resume = at;
        } else if (*p == '?') {
            p++;
            at += character(name, at);
        } else if (*p != '\0' && *p == name.p[at]) {
            p++;
            at++;
        } else if (star != NULL) { /* let the last star take one character more */
            resume += character(name, resume);
            at = resume;
            p = star;
        } else {
            return false;
        }
    }
    while (*p == '*')
        p++;
    return *p == '\0';
}

const struct policy *policies_find(const struct policies *p, struct slice room)
{
    bool reserved = slice_starts(room, SLICE("$"));
    for (size_t i = 0; i + 1 < p->count; i++)
        if (reserved == (p->list[i].pattern[0] == '$') && policy_match(p->list[i].pattern, room))
            return &p->list[i];
    return &p->list[p->count - 1];
}

const struct policy *policies_replicated(const struct policies *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->list[i].replicas != 0)
            return &p->list[i];
    return NULL;
}

const struct policy *policies_by_backend(const struct policies *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->list[i].publish == WHO_BACKEND)
            return &p->list[i];
    return NULL;
}

const struct policy *policies_with_events(const struct policies *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->list[i].events != 0)
            return &p->list[i];
    return NULL;
}

const struct policy *policies_by_token(const struct policies *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->list[i].join == WHO_TOKEN || p->list[i].publish == WHO_TOKEN || p->list[i].watch == WHO_TOKEN)
            return &p->list[i];
    return NULL;
}

/* --- parsing --- */

enum setting_type {
    SETTING_JOIN,
    SETTING_PUBLISH,
    SETTING_WATCH,
    SETTING_SLOW,
    SETTING_HISTORY,
    SETTING_BOOL,
    SETTING_COUNT,
    SETTING_SIZE,
    SETTING_SECONDS,
    SETTING_DURABILITY,
    SETTING_EVENTS
};

static const struct setting {
    const char *key;
    enum setting_type type;
    size_t offset;
    const char *expects;
} settings[] = {
    {"join", SETTING_JOIN, offsetof(struct policy, join), "anyone, token or nobody"},
    {"watch", SETTING_WATCH, offsetof(struct policy, watch), "anyone, token or nobody"},
    {"publish", SETTING_PUBLISH, offsetof(struct policy, publish), "anyone, members, token, backend or nobody"},
    {"presence", SETTING_BOOL, offsetof(struct policy, presence), "on or off"},
    {"notices", SETTING_BOOL, offsetof(struct policy, notices), "on or off"},
    {"slow", SETTING_SLOW, offsetof(struct policy, slow), "default, disconnect, drop-oldest or resume"},
    {"public-history", SETTING_HISTORY, offsetof(struct policy, public_history), "default, on or off"},
    {"rate", SETTING_COUNT, offsetof(struct policy, rate), "messages per second, 0 for no limit"},
    {"cluster-rate", SETTING_COUNT, offsetof(struct policy, cluster_rate), "messages per second, 0 for no limit"},
    {"size", SETTING_SIZE, offsetof(struct policy, size), "a size such as 4k, 0 for no limit of its own"},
    {"max-members", SETTING_COUNT, offsetof(struct policy, max_members), "a number, 0 for no limit"},
    {"retain-count", SETTING_COUNT, offsetof(struct policy, retain_count), "a number of messages"},
    {"retain-age", SETTING_SECONDS, offsetof(struct policy, retain_age_s), "a time in whole seconds such as 10m"},
    {"durability", SETTING_DURABILITY, offsetof(struct policy, replicas), "fast, or replicated:N with N from 1 to 8"},
    {"events", SETTING_EVENTS, offsetof(struct policy, events),
     "none, or some of message, join, leave with commas between"},
};

_Static_assert(REPLICAS_MAX == 8, "as the text above says");

static const char *const who_words[] = {[WHO_ANYONE] = "anyone", [WHO_MEMBERS] = "members", [WHO_TOKEN] = "token",
                                        [WHO_NOBODY] = "nobody", [WHO_BACKEND] = "backend", NULL};
static const char *const slow_words[] = {[POLICY_SLOW_DEFAULT] = "default",
                                         [POLICY_SLOW_DISCONNECT] = "disconnect",
                                         [POLICY_SLOW_DROP_OLDEST] = "drop-oldest",
                                         [POLICY_SLOW_RESUME] = "resume",
                                         NULL};
static const char *const event_words[] = {
    [POLICY_EVENT_MESSAGE] = "message", [POLICY_EVENT_JOIN] = "join", [POLICY_EVENT_LEAVE] = "leave", NULL};
static const char *const history_words[] = {
    [HISTORY_DEFAULT] = "default", [HISTORY_ON] = "on", [HISTORY_OFF] = "off", NULL};

/* Enough for a client that comes back within the default resume window to miss nothing. */
#define RETAIN_COUNT 100u
#define RETAIN_AGE_S 120u

/* The log of a namespace has what is emitted to all its rooms. */
#define RETAIN_COUNT_COMMON 1000u

/* Rooms of the server, but for those in which clients who may come back miss something. */
static uint32_t default_count(struct slice pattern, bool recovery)
{
    if (!slice_starts(pattern, SLICE("$")))
        return RETAIN_COUNT;
    bool common = slice_eq(pattern, SLICE("$all")) || slice_starts(pattern, SLICE("$namespace:"));
    return recovery && common ? RETAIN_COUNT_COMMON : 0;
}

static struct policy defaults(struct slice pattern, bool recovery)
{
    bool reserved = slice_starts(pattern, SLICE("$"));
    uint32_t count = default_count(pattern, recovery);
    return (struct policy){.pattern = xstrndup(pattern.p, pattern.n),
                           .join = reserved ? WHO_NOBODY : WHO_ANYONE,
                           .publish = reserved ? WHO_ANYONE : WHO_MEMBERS,
                           .watch = WHO_ANYONE,
                           .presence = true,
                           .notices = true,
                           .retain_count = count,
                           .retain_age_s = count != 0 ? RETAIN_AGE_S : 0};
}

/* Cuts the next word off *rest; empty at the end. */
static struct slice next_word(struct slice *rest)
{
    size_t from = 0, to;
    while (from < rest->n && (rest->p[from] == ' ' || rest->p[from] == '\t'))
        from++;
    for (to = from; to < rest->n && rest->p[to] != ' ' && rest->p[to] != '\t';)
        to++;
    struct slice word = {rest->p + from, to - from};
    *rest = slice_from(*rest, to);
    return word;
}

static const struct setting *find_setting(struct slice key)
{
    for (size_t i = 0; i < ARRAY_LEN(settings); i++)
        if (slice_eq(key, (struct slice){settings[i].key, strlen(settings[i].key)}))
            return &settings[i];
    return NULL;
}

static bool set_who(struct slice value, bool for_publish, enum policy_who *ret)
{
    unsigned word;
    if (!value_word(value, who_words, &word) || (!for_publish && (word == WHO_MEMBERS || word == WHO_BACKEND)))
        return false;
    *ret = (enum policy_who)word;
    return true;
}

static bool set_seconds(struct slice value, uint32_t *ret)
{
    uint64_t ms;
    if (!value_time(value, &ms) || ms % 1000 != 0 || ms / 1000 > UINT32_MAX)
        return false;
    *ret = (uint32_t)(ms / 1000);
    return true;
}

static bool set_slow(struct slice value, enum policy_slow *ret)
{
    unsigned word;
    if (!value_word(value, slow_words, &word))
        return false;
    *ret = (enum policy_slow)word;
    return true;
}

static bool set_history(struct slice value, enum policy_history *ret)
{
    unsigned word;
    if (!value_word(value, history_words, &word))
        return false;
    *ret = (enum policy_history)word;
    return true;
}

static bool set_durability(struct slice value, uint32_t *ret)
{
    const struct slice prefix = SLICE("replicated:");
    uint32_t n;
    if (slice_eq(value, SLICE("fast"))) {
        *ret = 0;
        return true;
    }
    if (!slice_starts(value, prefix) || !value_count(slice_from(value, prefix.n), &n) || n == 0 || n > REPLICAS_MAX)
        return false;
    *ret = n;
    return true;
}

static bool set_events(struct slice value, unsigned *ret)
{
    unsigned set = 0, word;
    if (slice_eq(value, SLICE("none"))) {
        *ret = 0;
        return true;
    }
    for (;;) {
        const char *comma = value.n != 0 ? memchr(value.p, ',', value.n) : NULL;
        size_t n = comma != NULL ? (size_t)(comma - value.p) : value.n;
        if (!value_word((struct slice){value.p, n}, event_words, &word) || (set & BIT(word)) != 0)
            return false;
        set |= BIT(word);
        if (comma == NULL)
            break;
        value = slice_from(value, n + 1);
    }
    *ret = set;
    return true;
}

static bool set_value(struct policy *p, const struct setting *s, struct slice value)
{
    void *field = (char *)p + s->offset;
    switch (s->type) {
    case SETTING_JOIN:
    case SETTING_WATCH: return set_who(value, false, field);
    case SETTING_PUBLISH: return set_who(value, true, field);
    case SETTING_SLOW: return set_slow(value, field);
    case SETTING_HISTORY: return set_history(value, field);
    case SETTING_BOOL: return value_bool(value, field);
    case SETTING_COUNT: return value_count(value, field);
    case SETTING_SIZE: return value_size(value, field);
    case SETTING_SECONDS: return set_seconds(value, field);
    case SETTING_DURABILITY: return set_durability(value, field);
    case SETTING_EVENTS: return set_events(value, field);
    }
    return false;
}

static enum err unknown_setting(struct slice key, struct slice pattern, struct error *reterr)
{
    const struct setting *near = NULL;
    unsigned least = 2;
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        unsigned distance = value_distance(key, slice_str(settings[i].key));
        if (distance != 0 && distance <= least) {
            least = distance - 1;
            near = &settings[i];
        }
    }
    return fail(reterr, ERR_BAD_REQUEST, "policy %.60s: unknown key \"%.*s\"%s%s%s", pattern.p,
                (int)(key.n < 40 ? key.n : 40), key.p, near != NULL ? "; did you mean " : "",
                near != NULL ? near->key : "", near != NULL ? "?" : "");
}

/* One key=value of p's line. seen: a bit per setting that the line has given. */
static enum err parse_setting(struct slice word, struct policy *p, unsigned *seen, struct error *reterr)
{
    const char *equals = memchr(word.p, '=', word.n);
    if (equals == NULL)
        return fail(reterr, ERR_BAD_REQUEST, "policy %.60s: \"%.*s\" is not KEY=VALUE", p->pattern,
                    (int)(word.n < 40 ? word.n : 40), word.p);
    struct slice key = {word.p, (size_t)(equals - word.p)}, value = slice_from(word, key.n + 1);
    const struct setting *s = find_setting(key);
    if (s == NULL)
        return unknown_setting(key, slice_str(p->pattern), reterr);
    if (*seen & BIT(s - settings))
        return fail(reterr, ERR_BAD_REQUEST, "policy %.60s: %s is given twice", p->pattern, s->key);
    *seen |= BIT(s - settings);
    if (!set_value(p, s, value))
        return fail(reterr, ERR_BAD_REQUEST, "policy %.60s: %s=%.*s: must be %s", p->pattern, s->key,
                    (int)(value.n < 40 ? value.n : 40), value.p, s->expects);
    return OK;
}

/* Settings that make no sense together. */
static enum err check_line(const struct policy *p, struct error *reterr)
{
    if (p->replicas != 0 && p->retain_count == 0)
        return fail(reterr, ERR_BAD_REQUEST,
                    "policy %.60s: durability=replicated:%u with retain-count=0: there is no log for the replicas to "
                    "hold; give it a retain-count",
                    p->pattern, p->replicas);
    return OK;
}

static enum err parse_line(struct slice line, bool recovery, struct policy *ret, struct error *reterr)
{
    struct slice rest = line, pattern = next_word(&rest);
    if (!utf8_name_valid(pattern, PATTERN_MAX))
        return fail(reterr, ERR_BAD_REQUEST, "policy \"%.*s\": the pattern must be 1 to %d bytes of UTF-8",
                    (int)(line.n < 60 ? line.n : 60), line.p, PATTERN_MAX);
    /* `join=nobody` alone is a forgotten pattern, not a room of that name. */
    const char *equals = memchr(pattern.p, '=', pattern.n);
    if (equals != NULL && find_setting((struct slice){pattern.p, (size_t)(equals - pattern.p)}) != NULL)
        return fail(reterr, ERR_BAD_REQUEST, "policy \"%.*s\": begins with a setting; the pattern comes first",
                    (int)(line.n < 60 ? line.n : 60), line.p);
    struct policy p = defaults(pattern, recovery);
    unsigned seen = 0;
    for (struct slice word = next_word(&rest); word.n != 0; word = next_word(&rest)) {
        if (parse_setting(word, &p, &seen, reterr) != OK) {
            free(p.pattern);
            return reterr->code;
        }
    }
    if (check_line(&p, reterr) != OK) {
        free(p.pattern);
        return reterr->code;
    }
    *ret = p;
    return OK;
}

struct policies *policies_create(char *const *lines, size_t count, bool recovery, struct error *reterr)
{
    static const char *const behind[] = {"$all", "$namespace:*", "$*", "*"};
    struct policies *p = xmalloc(sizeof *p);
    *p = (struct policies){.list = xcalloc(count + ARRAY_LEN(behind), sizeof *p->list)};
    for (size_t i = 0; i < count; i++) {
        if (parse_line(slice_str(lines[i]), recovery, &p->list[p->count], reterr) != OK) {
            policies_destroy(&p);
            return NULL;
        }
        p->count++;
    }
    for (size_t i = recovery ? 0 : 2; i < ARRAY_LEN(behind); i++)
        p->list[p->count++] = defaults(slice_str(behind[i]), recovery);
    return p;
}

void policies_destroy(struct policies **p)
{
    if (*p == NULL)
        return;
    for (size_t i = 0; i < (*p)->count; i++)
        free((*p)->list[i].pattern);
    free((*p)->list);
    free(*p);
    *p = NULL;
}
