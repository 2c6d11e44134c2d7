/* gateway/wxlogin.h: clients that say who they are by a code of wx.login (--wechat-login): the code is exchanged at WeChat, the user gets a token as with --auth jwt, and comes in with that. */
#ifndef XD_WXLOGIN_H
#define XD_WXLOGIN_H

#include "gateway/auth/auth.h"

struct gateway;
struct wechat_apps;
struct wxlogin;

struct wxlogin_ask {
    struct slice code;
    struct slice appid;   /* as the client says; empty: it does not */
    struct slice referer; /* of its request: only a hint at the app. WeChat refuses codes of another one */
    const char *ip;
};

struct wxlogin_result {
    enum err
        err; /* ERR_UNAUTHORIZED: the code is none; ERR_FORBIDDEN; ERR_UNAVAILABLE: to be tried again, with another code */
    const char *why;            /* when err is not OK; for the client */
    struct auth_claims *claims; /* OK only: to be taken */
    struct slice token;         /* OK only; borrowed */
};

typedef void wxlogin_done(void *arg, struct wxlogin_result *r);

/* Completes from the loop unless it is cancelled. Otherwise *reterr says why not: ERR_UNSUPPORTED, ERR_BAD_REQUEST, ERR_RATE_LIMITED; *ret stays. */
enum err wxlogin_begin(struct gateway *g, const struct wxlogin_ask *ask, wxlogin_done *done, void *arg,
                       struct wxlogin **ret, struct error *reterr);
/* Nobody waits any more. NULL-safe. */
void wxlogin_cancel(struct wxlogin *w);

/* Can these apps' users get tokens, with the rights that the file gives them? */
enum err wxlogin_check(const struct auth_jwt *auth, const struct wechat_apps *apps, uint64_t now_s,
                       struct error *reterr);

#endif
