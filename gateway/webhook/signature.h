/* gateway/webhook/signature.h: how the tunnel service of Wafer and its business servers sign what they tell each other: SHA-1 over the data and the key behind it (docs/wafer.md). */
#ifndef XD_WEBHOOK_SIGNATURE_H
#define XD_WEBHOOK_SIGNATURE_H

#include <stdbool.h>

#include "base/slice.h"

#define WAFER_SIGNATURE_LEN 40
#define WAFER_ID_LEN        32

/* In lower-case hex with a NUL. */
void wafer_sign(struct slice data, struct slice key, char ret[WAFER_SIGNATURE_LEN + 1]);
/* Is it theirs? How long that takes says nothing about how much of it is right. */
bool wafer_signed(struct slice data, struct slice key, struct slice signature);
/* The same for a key that was presented itself. */
bool wafer_key_is(struct slice presented, struct slice key);

/* What SDKs call themselves (tcId): the MD5 of their server's host. False when this OpenSSL knows no MD5. */
bool wafer_id(struct slice server_host, char ret[WAFER_ID_LEN + 1]);

#endif
