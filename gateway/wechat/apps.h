/* gateway/wechat/apps.h: the mini-programs whose users may log in here, from one JSON file. docs/wechat.md says what is in it. */
#ifndef XD_WECHAT_APPS_H
#define XD_WECHAT_APPS_H

#include "base/error.h"
#include "base/slice.h"

#define WECHAT_APPID_MAX 64u /* bytes */

struct wechat_app {
    char *appid, *secret;
    uint32_t login_s, session_s; /* a login is good for so long, and for so long after it was checked last */
    uint32_t watermark_s;        /* what a client tells of its user must not be older; 0: may */
    uint32_t rate;               /* logins per second in the cluster; 0: no limit */
    /* Clients that log in here directly: */
    uint32_t address_rate; /* logins per second of one address; 0: no limit */
    uint32_t token_s;      /* how long their tokens are good */
    bool by_unionid;       /* that is the user's name, not his openid */
    char *rights;          /* what "xindao" is in their tokens; NULL: nothing */
};

/* A file's worth of apps; counted, because requests outlive a reload. */
struct wechat_apps;

/* NULL with *reterr, which names the app that is wrong and never quotes a secret. */
struct wechat_apps *wechat_apps_load(const char *path, struct error *reterr);
struct wechat_apps *wechat_apps_parse(struct slice text, struct error *reterr);
struct wechat_apps *wechat_apps_ref(struct wechat_apps *a);
/* NULL-safe; clears the pointer. */
void wechat_apps_unref(struct wechat_apps **apps);
size_t wechat_apps_count(const struct wechat_apps *a);
const struct wechat_app *wechat_apps_at(const struct wechat_apps *a, size_t i);

/* Of an empty appid: the one there is, or the one the file says is the default. NULL: none. */
const struct wechat_app *wechat_apps_find(const struct wechat_apps *a, struct slice appid);

#endif
