/* gateway/mina_body.h: what a business server asks the session service (POST /mina_auth/), and the codes it is answered with. Pure. */
#ifndef XD_MINA_BODY_H
#define XD_MINA_BODY_H

#include "base/arena.h"
#include "base/slice.h"

#define MINA_ID_LEN   32u /* hex digits: whose login */
#define MINA_NAME_LEN 12u /* letters of base64url: which of his */
#define MINA_SKEY_LEN 32u /* letters of base64url: 192 random bits */
#define MINA_BODY_MAX 32768u

/* X(enumerator, number, what it means): as Tencent's service had them */
#define MINA_CODE_MAP(X)                                                                                               \
    X(MINA_OK, 0, "OK")                                                                                                \
    X(MINA_STORE, 1001, "the store does not answer")                                                                   \
    X(MINA_NO_INTERFACE, 1002, "there is no such interface")                                                           \
    X(MINA_PARAMETER, 1003, "a parameter is wrong")                                                                    \
    X(MINA_WECHAT_AWAY, 1005, "WeChat cannot be reached")                                                              \
    X(MINA_NOT_KEPT, 1006, "the session cannot be kept")                                                               \
    X(MINA_WECHAT_ANSWER, 1007, "WeChat's answer is of no use")                                                        \
    X(MINA_NOT_TOUCHED, 1008, "the last visit cannot be noted")                                                        \
    X(MINA_NOT_JSON, 1009, "the request is not JSON")                                                                  \
    X(MINA_INTERFACE_NAME, 1010, "the name of the interface is wrong")                                                 \
    X(MINA_NO_PARAMETER, 1011, "there are no parameters")                                                              \
    X(MINA_NO_APP, 1012, "which app? none is named")                                                                   \
    X(MINA_UNKNOWN_APP, 1013, "no such app is known here")                                                             \
    X(MINA_BAD_CODE, 40029, "the code is invalid")                                                                     \
    X(MINA_EXPIRED, 60011, "the skey is over")                                                                         \
    X(MINA_UNKNOWN, 60012, "the skey is not one")                                                                      \
    X(MINA_DECRYPT, 60021, "the user data cannot be decrypted")

#define X(code, number, text) code = (number),
enum mina_code { MINA_CODE_MAP(X) };
#undef X

const char *mina_code_text(enum mina_code code);

enum mina_interface { MINA_LOGIN, MINA_CHECK };

struct mina_body {
    enum mina_interface interface;
    struct slice appid;          /* ours: which app; empty: not said */
    struct slice code, data, iv; /* log in; data and iv may both be empty: nothing is told of the user */
    struct slice id, name, skey; /* check */
};

/* MINA_OK, or what is wrong, with a sentence in *ret_why (static). Slices point into body or the arena. */
enum mina_code mina_body_parse(struct slice body, struct arena *a, struct mina_body *ret, const char **ret_why);

#endif
