/* gateway/api_routes.h: every route of the server API. docs/openapi.yaml is checked against this list, and that each is tested: tests/lint/openapi.sh says how. */
#ifndef XD_API_ROUTES_H
#define XD_API_ROUTES_H

#include "gateway/api_call.h"

// clang-format off
/* X(method, path below /api/v1, scope, open to clients without a key, handler) */
#define API_ROUTE_MAP(X)                                                                                  \
    X("GET",    "/rooms",                           SCOPE_ROOMS_READ,     true,  api_get_rooms)           \
    X("GET",    "/rooms/{room}",                    SCOPE_ROOMS_READ,     true,  api_get_room)            \
    X("DELETE", "/rooms/{room}",                    SCOPE_ROOMS_WRITE,    false, api_delete_room)         \
    X("GET",    "/rooms/{room}/members",            SCOPE_ROOMS_READ,     true,  api_get_members)         \
    X("GET",    "/rooms/{room}/history",            SCOPE_ROOMS_READ,     true,  api_get_history)         \
    X("GET",    "/rooms/{room}/messages/{offset}/trace", SCOPE_SESSIONS_READ, false, api_get_trace)       \
    X("POST",   "/publish",                         SCOPE_PUBLISH,        false, api_publish)             \
    X("POST",   "/publish/batch",                   SCOPE_PUBLISH,        false, api_publish_batch)       \
    X("POST",   "/emit",                            SCOPE_PUBLISH,        false, api_emit)                \
    X("POST",   "/send",                            SCOPE_PUBLISH,        false, api_send)                \
    X("POST",   "/broadcast",                       SCOPE_PUBLISH,        false, api_broadcast)           \
    X("GET",    "/sessions",                        SCOPE_SESSIONS_READ,  false, api_get_sessions)        \
    X("POST",   "/sessions/join",                   SCOPE_SESSIONS_WRITE, false, api_join_sessions)       \
    X("POST",   "/sessions/leave",                  SCOPE_SESSIONS_WRITE, false, api_leave_sessions)      \
    X("POST",   "/sessions/disconnect",             SCOPE_SESSIONS_WRITE, false, api_disconnect_sessions) \
    X("GET",    "/sessions/{session}",              SCOPE_SESSIONS_READ,  false, api_get_session)         \
    X("PATCH",  "/sessions/{session}",              SCOPE_SESSIONS_WRITE, false, api_patch_session)       \
    X("DELETE", "/sessions/{session}",              SCOPE_SESSIONS_WRITE, false, api_delete_session)      \
    X("GET",    "/bans",                            SCOPE_USERS_READ,     false, api_get_bans)            \
    X("GET",    "/users/{user}/ban",                SCOPE_USERS_READ,     false, api_get_ban)             \
    X("PUT",    "/users/{user}/ban",                SCOPE_USERS_WRITE,    false, api_put_ban)             \
    X("DELETE", "/users/{user}/ban",                SCOPE_USERS_WRITE,    false, api_delete_ban)          \
    X("POST",   "/tokens/revoke",                   SCOPE_USERS_WRITE,    false, api_revoke)              \
    X("PUT",    "/sessions/{session}/rooms/{room}", SCOPE_SESSIONS_WRITE, false, api_put_session_room)    \
    X("DELETE", "/sessions/{session}/rooms/{room}", SCOPE_SESSIONS_WRITE, false, api_delete_session_room) \
    X("POST",   "/users/presence",                  SCOPE_USERS_READ,     false, api_post_presence)       \
    X("GET",    "/users/{user}",                    SCOPE_USERS_READ,     false, api_get_user)            \
    X("DELETE", "/users/{user}",                    SCOPE_USERS_WRITE,    false, api_delete_user)         \
    X("GET",    "/nodes",                           SCOPE_ADMIN,          false, api_get_nodes)           \
    X("GET",    "/stats",                           SCOPE_ADMIN,          false, api_get_stats)
// clang-format on

#define X(method, path, scope, open, run) api_handler run;
API_ROUTE_MAP(X)
#undef X

#endif
