/* gateway/mina.h: the session service of Wafer applications: POST /mina_auth/ of a business server makes a login of a wx.login code, and checks logins later.
 * docs/wechat.md. WeChat's session_key decrypts what the client tells of its user and is forgotten at once: it is in no answer, no log and not in the store. */
#ifndef XD_MINA_H
#define XD_MINA_H

#include "base/error.h"
#include "gateway/transport.h"

struct auth_jwt;
struct config;

/* Nothing without wechat-apps. */
enum err mina_open(struct gateway *g, struct error *reterr);
void mina_close(struct gateway *g);
/* Reads the apps again; on failure the old ones stay. */
enum err mina_reload(struct gateway *g, struct error *reterr);
/* Whether it could be opened: for --check-config. auth: NULL without --auth jwt. */
enum err mina_check(const struct config *cfg, const struct auth_jwt *auth, struct error *reterr);
/* To be called now and then: what it has asked, for /metrics. */
void mina_count(const struct gateway *g);

bool mina_path(struct slice path);
void mina_http(struct gateway *g, const struct http_request *r, struct http_exchange *x);

#endif
