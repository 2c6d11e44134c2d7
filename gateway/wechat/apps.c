/* gateway/wechat/apps.c: reading the file of apps. */
#include "gateway/wechat/apps.h"

#include <jansson.h>
#include <stdio.h>

#include "base/json_file.h"
#include "base/mem.h"

#define APPS_MAX      1000u
#define SECRET_MAX    256u
#define DURATION      (30u * 24 * 3600) /* as Tencent's service had it */
#define DURATION_MAX  (3650u * 24 * 3600)
#define WATERMARK_MAX (24u * 3600)
#define RATE          50u
#define RATE_MAX      100000u
#define ADDRESS_RATE  5u
#define RIGHTS_MAX    4096u
#define TOKEN         (7u * 24 * 3600)

struct wechat_apps {
    unsigned refs;
    size_t count;
    const struct wechat_app *standard;
    struct wechat_app list[];
};

/* --- reading --- */

static bool appid_valid(const char *s)
{
    size_t n = s != NULL ? strlen(s) : 0;
    return n != 0 && n <= WECHAT_APPID_MAX &&
           strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

static bool secret_valid(const char *s)
{
    size_t n = s != NULL ? strlen(s) : 0;
    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] > '~')
            return false;
    return n != 0 && n <= SECRET_MAX;
}

/* What clients who come in by themselves are called, and may do. Whether the rights are right is seen when a token is made of them. */
static enum err read_entrance(const json_t *o, struct wechat_app *ret, struct error *reterr)
{
    const json_t *user = json_object_get(o, "user"), *rights = json_object_get(o, "xindao");
    const char *word = json_string_value(user);
    if (user != NULL && (word == NULL || (strcmp(word, "openid") != 0 && strcmp(word, "unionid") != 0)))
        return fail(reterr, ERR_BAD_REQUEST, "app %s: \"user\" must be openid or unionid", ret->appid);
    ret->by_unionid = word != NULL && strcmp(word, "unionid") == 0;
    if (rights == NULL)
        return OK;
    ret->rights = json_is_object(rights) ? json_dumps(rights, JSON_COMPACT) : NULL;
    if (ret->rights == NULL || strlen(ret->rights) > RIGHTS_MAX)
        return fail(reterr, ERR_BAD_REQUEST, "app %s: \"xindao\" must be an object of at most %u bytes", ret->appid,
                    RIGHTS_MAX);
    return OK;
}

static enum err read_app(json_t *o, size_t at, struct wechat_app *ret, struct error *reterr)
{
    static const char *const known[] = {
        "appid",      "secret",       "login_seconds", "session_seconds", "watermark_seconds",
        "login_rate", "address_rate", "user",          "token_seconds",   "xindao",
        NULL};
    const struct json_number numbers[] = {{"login_seconds", &ret->login_s, 1, DURATION_MAX},
                                          {"session_seconds", &ret->session_s, 1, DURATION_MAX},
                                          {"watermark_seconds", &ret->watermark_s, 0, WATERMARK_MAX},
                                          {"login_rate", &ret->rate, 0, RATE_MAX},
                                          {"address_rate", &ret->address_rate, 0, RATE_MAX},
                                          {"token_seconds", &ret->token_s, 60, DURATION_MAX}};
    char what[WECHAT_APPID_MAX + 5];
    const char *appid = json_string_value(json_object_get(o, "appid"));
    const char *secret = json_string_value(json_object_get(o, "secret"));
    if (!appid_valid(appid))
        return fail(reterr, ERR_BAD_REQUEST, "app %zu of the list has no \"appid\" of 1 to %u of A-Z a-z 0-9 _ -",
                    at + 1, WECHAT_APPID_MAX);
    *ret = (struct wechat_app){.appid = xstrdup(appid),
                               .login_s = DURATION,
                               .session_s = DURATION,
                               .rate = RATE,
                               .address_rate = ADDRESS_RATE,
                               .token_s = TOKEN};
    (void)snprintf(what, sizeof what, "app %s", appid);
    enum err err = json_file_members(o, known, what, reterr);
    if (err == OK && !secret_valid(secret))
        err = fail(reterr, ERR_BAD_REQUEST, "%s: \"secret\" must be its AppSecret, 1 to %u letters without blanks",
                   what, SECRET_MAX);
    if (err == OK)
        ret->secret = xstrdup(secret);
    for (size_t i = 0; i < ARRAY_LEN(numbers) && err == OK; i++)
        err = json_file_number(o, &numbers[i], what, reterr);
    return err == OK ? read_entrance(o, ret, reterr) : err;
}

static enum err choose_default(struct wechat_apps *a, const json_t *root, struct error *reterr)
{
    const json_t *v = json_object_get(root, "default");
    const char *appid = json_string_value(v);
    if (v == NULL) {
        a->standard = a->count == 1 ? &a->list[0] : NULL;
        return OK;
    }
    a->standard = appid != NULL ? wechat_apps_find(a, slice_str(appid)) : NULL;
    return a->standard != NULL ? OK : fail(reterr, ERR_BAD_REQUEST, "\"default\" is the appid of none of the list");
}

static struct wechat_apps *read_list(json_t *root, struct error *reterr)
{
    static const char *const known[] = {"apps", "default", NULL};
    json_t *list = json_file_list(root, "apps", known, APPS_MAX, reterr), *item;
    size_t i;
    enum err err = OK;
    if (list == NULL)
        return NULL;
    struct wechat_apps *a = xcalloc(1, sizeof *a + json_array_size(list) * sizeof a->list[0]);
    a->refs = 1;
    for (i = 0; err == OK && (item = json_array_get(list, i)) != NULL; i++) {
        err = read_app(item, i, &a->list[a->count++], reterr);
        if (err == OK && wechat_apps_find(a, slice_str(a->list[i].appid)) != &a->list[i])
            err = fail(reterr, ERR_BAD_REQUEST, "two apps have the appid %s", a->list[i].appid);
    }
    if (err == OK)
        err = choose_default(a, root, reterr);
    if (err != OK)
        wechat_apps_unref(&a);
    return a;
}

/* Takes root, which may be NULL. */
static struct wechat_apps *read_root(json_t *root, struct error *reterr)
{
    struct wechat_apps *a = root != NULL ? read_list(root, reterr) : NULL;
    json_decref(root);
    return a;
}

struct wechat_apps *wechat_apps_parse(struct slice text, struct error *reterr)
{
    return read_root(json_file_parse(text, reterr), reterr);
}

struct wechat_apps *wechat_apps_load(const char *path, struct error *reterr)
{
    struct error why = {0};
    struct wechat_apps *a = read_root(json_file_load(path, &why), &why);
    if (a == NULL)
        (void)fail(reterr, ERR_BAD_REQUEST, "wechat-apps %.60s: %.120s", path, why.text);
    return a;
}

/* --- life --- */

struct wechat_apps *wechat_apps_ref(struct wechat_apps *a)
{
    a->refs++;
    return a;
}

void wechat_apps_unref(struct wechat_apps **apps)
{
    struct wechat_apps *a = TAKE(*apps);
    if (a == NULL || --a->refs != 0)
        return;
    for (size_t i = 0; i < a->count; i++) {
        free(a->list[i].appid);
        if (a->list[i].secret != NULL)
            explicit_bzero(a->list[i].secret, strlen(a->list[i].secret));
        free(a->list[i].secret);
        free(a->list[i].rights);
    }
    free(a);
}

size_t wechat_apps_count(const struct wechat_apps *a)
{
    return a != NULL ? a->count : 0;
}

const struct wechat_app *wechat_apps_at(const struct wechat_apps *a, size_t i)
{
    return &a->list[i];
}

const struct wechat_app *wechat_apps_find(const struct wechat_apps *a, struct slice appid)
{
    if (a == NULL || appid.n == 0)
        return a != NULL ? a->standard : NULL;
    for (size_t i = 0; i < a->count; i++)
        if (slice_eq(slice_str(a->list[i].appid), appid))
            return &a->list[i];
    return NULL;
}
