/* gateway/wechat/userdata.h: what a WeChat client tells of its user (`encryptedData` of wx.getUserInfo): AES-128-CBC with PKCS#7 padding under the session_key that only
 * WeChat and whoever exchanged the code know. Pure. */
#ifndef XD_WECHAT_USERDATA_H
#define XD_WECHAT_USERDATA_H

#include "base/buf.h"
#include "base/error.h"
#include "gateway/wechat/apps.h"

#define WECHAT_USERDATA_MAX 8192u /* bytes, decrypted */

/* All in base64, as they came. */
struct wechat_sealed {
    struct slice session_key, data, iv;
};

/* Appends what was told, a JSON object, with "openId" in it whether the client said so or not. ERR_BAD_REQUEST with *reterr when it cannot be decrypted, is another app's
 * or another user's, or is too old; then nothing is appended. */
enum err wechat_userdata_open(const struct wechat_app *app, const struct wechat_sealed *sealed, struct slice openid,
                              uint64_t now_s, struct buf *ret, struct error *reterr);

/* Appends an object that knows the openid alone. */
void wechat_userdata_none(struct slice openid, struct buf *ret);

#endif
