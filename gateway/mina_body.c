/* gateway/mina_body.c: bodies of requests to the session service. */
#include "gateway/mina_body.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/wechat/exchange.h"
#include "gateway/wechat/userdata.h"
#include "proto/json.h"

#define DATA_MAX ((size_t)WECHAT_USERDATA_MAX * 2) /* letters of base64, and then some */

enum member { CODE, DATA, IV, ID, SKEY, APPID, MEMBERS };

static const struct {
    const char *name;
    size_t max; /* bytes */
} members[MEMBERS] = {[CODE] = {"code", WECHAT_CODE_MAX},
                      [DATA] = {"encrypt_data", DATA_MAX},
                      [IV] = {"iv", 64},
                      [ID] = {"id", 256},
                      [SKEY] = {"skey", 256},
                      [APPID] = {"appid", WECHAT_APPID_MAX}};

const char *mina_code_text(enum mina_code code)
{
    switch (code) {
#define X(code, number, text)                                                                                          \
    case code: return text;
        MINA_CODE_MAP(X)
#undef X
    }
    return "";
}

static enum mina_code say(enum mina_code code, const char *why, const char **ret_why)
{
    *ret_why = why != NULL ? why : mina_code_text(code);
    return code;
}

/* What is null, or empty, was not said. */
static bool read_members(struct slice para, struct arena *a, struct slice ret[MEMBERS])
{
    const char *names[MEMBERS];
    struct json_value v[MEMBERS];
    struct error ignored;
    for (size_t i = 0; i < MEMBERS; i++)
        names[i] = members[i].name;
    if (json_members(para, names, MEMBERS, v, &ignored) != OK)
        return false;
    for (size_t i = 0; i < MEMBERS; i++) {
        ret[i] = SLICE_NONE;
        if (v[i].kind == JSON_KIND_NONE || v[i].kind == JSON_KIND_NULL)
            continue;
        if (v[i].kind != JSON_KIND_STRING || json_unquote(v[i], a, &ret[i], &ignored) != OK ||
            ret[i].n > members[i].max)
            return false;
    }
    return true;
}

static enum mina_code read_login(const struct slice *m, struct mina_body *ret, const char **ret_why)
{
    ret->code = m[CODE];
    ret->data = m[DATA];
    ret->iv = m[IV];
    if (m[CODE].n == 0)
        return say(MINA_PARAMETER, "there is no code", ret_why);
    if (!utf8_name_valid(m[CODE], WECHAT_CODE_MAX))
        return say(MINA_PARAMETER, "the code has control characters", ret_why);
    if ((m[DATA].n == 0) != (m[IV].n == 0))
        return say(MINA_PARAMETER, "encrypt_data and iv belong together", ret_why);
    return MINA_OK;
}

static bool made_of(struct slice s, const char *letters)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '\0' || strchr(letters, s.p[i]) == NULL)
            return false;
    return true;
}

/* An id of another form is one of a former service: its client has to log in. */
static enum mina_code read_check(const struct slice *m, struct mina_body *ret, const char **ret_why)
{
    struct slice id = m[ID];
    if (id.n == 0 || m[SKEY].n == 0)
        return say(MINA_PARAMETER, id.n == 0 ? "there is no id" : "there is no skey", ret_why);
    if (id.n != MINA_ID_LEN + 1 + MINA_NAME_LEN || id.p[MINA_ID_LEN] != '.')
        return say(MINA_UNKNOWN, NULL, ret_why);
    ret->id = (struct slice){id.p, MINA_ID_LEN};
    ret->name = slice_from(id, MINA_ID_LEN + 1);
    ret->skey = m[SKEY];
    if (!made_of(ret->id, "0123456789abcdef") ||
        !made_of(ret->name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
        return say(MINA_UNKNOWN, NULL, ret_why);
    return MINA_OK;
}

static enum mina_code read_interface(struct slice interface, struct arena *a, struct mina_body *ret,
                                     struct slice *ret_para, const char **ret_why)
{
    enum { NAME, PARA, COUNT };
    static const char *const names[COUNT] = {"interfaceName", "para"};
    struct json_value v[COUNT];
    struct error ignored;
    struct slice name;
    if (json_members(interface, names, COUNT, v, &ignored) != OK)
        return say(MINA_NOT_JSON, "a member of \"interface\" is there twice", ret_why);
    if (v[NAME].kind != JSON_KIND_STRING || json_unquote(v[NAME], a, &name, &ignored) != OK)
        return say(MINA_INTERFACE_NAME, NULL, ret_why);
    if (slice_eq(name, SLICE("qcloud.cam.id_skey")))
        ret->interface = MINA_LOGIN;
    else if (slice_eq(name, SLICE("qcloud.cam.auth")))
        ret->interface = MINA_CHECK;
    else
        return say(MINA_NO_INTERFACE, NULL, ret_why);
    if (v[PARA].kind != JSON_KIND_OBJECT)
        return say(MINA_NO_PARAMETER, NULL, ret_why);
    *ret_para = v[PARA].raw;
    return MINA_OK;
}

enum mina_code mina_body_parse(struct slice body, struct arena *a, struct mina_body *ret, const char **ret_why)
{
    static const char *const names[] = {"interface"};
    struct json_value interface;
    struct error ignored;
    struct slice para, m[MEMBERS];
    *ret = (struct mina_body){0};
    if (body.n > MINA_BODY_MAX)
        return say(MINA_PARAMETER, "the request is too large", ret_why);
    if (!utf8_valid(body) || json_members(body, names, 1, &interface, &ignored) != OK)
        return say(MINA_NOT_JSON, NULL, ret_why);
    if (interface.kind != JSON_KIND_OBJECT)
        return say(MINA_INTERFACE_NAME, "there is no interface", ret_why);
    enum mina_code code = read_interface(interface.raw, a, ret, &para, ret_why);
    if (code != MINA_OK)
        return code;
    if (!read_members(para, a, m))
        return say(MINA_PARAMETER, "a parameter is not a string, too long, or there twice", ret_why);
    ret->appid = m[APPID];
    return ret->interface == MINA_LOGIN ? read_login(m, ret, ret_why) : read_check(m, ret, ret_why);
}
