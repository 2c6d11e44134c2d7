/* gateway/net/upgrade.h: the WebSocket opening handshake, server side (RFC 6455 §4.2). Pure. */
#ifndef XD_UPGRADE_H
#define XD_UPGRADE_H

#include "gateway/net/request.h"

/* True when the request asks for a WebSocket; whether rightly is for upgrade_check(). */
bool upgrade_wanted(const struct request *r);

/* OK, or what is wrong with the handshake; *ret_status is then the HTTP status (426 for another version than 13). */
enum err upgrade_check(const struct request *r, int *ret_status, struct error *reterr);

/* Appends the 101 response. */
void upgrade_accept(const struct request *r, struct slice subprotocol, struct buf *ret);

#endif
