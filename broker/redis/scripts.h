/* broker/redis/scripts.h: the Lua scripts, embedded at build time from broker/redis/scripts/. Each touches keys of one hash tag only. */
#ifndef XD_BROKER_REDIS_SCRIPTS_H
#define XD_BROKER_REDIS_SCRIPTS_H

#include "broker/redis/link.h"

enum script {
    SCRIPT_PUBLISH,
    SCRIPT_WHISPER,
    SCRIPT_JOIN,
    SCRIPT_LEAVE,
    SCRIPT_SUSPEND,
    SCRIPT_PUT,
    SCRIPT_TOUCH,
    SCRIPT_UNNOTE,
    SCRIPT_PARK,
    SCRIPT_RESUME,
    SCRIPT_AUDIT,
    SCRIPT_END,
    SCRIPT_CONTROL,
    SCRIPT_AWAY,
    SCRIPT_GIVE,
    SCRIPT_CLEAR,
    SCRIPT_FORGET,
    SCRIPT_DUE,
    SCRIPT_SETTLE,
    SCRIPT_BAN,
    SCRIPT_BANS,
    SCRIPT_REVOKE,
    SCRIPT_LIMIT,
    SCRIPT_SECRETS,
    SCRIPT_HEARTBEAT,
    SCRIPT_CLAIM,
    SCRIPT_RETIRE,
    SCRIPT_EVENT,
    SCRIPT_EVENTS,
    SCRIPT_ATTEND,
    SCRIPT_PRESENT,
    SCRIPT_READ,
    SCRIPT_WECHAT_PUT,
    SCRIPT_WECHAT_CHECK,
    SCRIPT_TUNNEL_OFFER,
    SCRIPT_TUNNEL_TAKE,
    SCRIPT_POLLING_PUT,
    SCRIPT_POLLING_TAKE,
    SCRIPT_POLLING_DROP,
    SCRIPT_COUNT
};

extern const struct redis_script redis_scripts[SCRIPT_COUNT];
extern const struct redis_script redis_cluster_scripts[SCRIPT_COUNT]; /* with SPUBLISH */

#endif
