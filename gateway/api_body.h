/* gateway/api_body.h: what requests to the server API carry: JSON bodies to plain structs. Pure: no I/O, no state. */
#ifndef XD_API_BODY_H
#define XD_API_BODY_H

#include "base/arena.h"
#include "base/error.h"
#include "proto/envelope.h"
#include "proto/json.h"

#define API_BATCH_MAX   100 /* messages of one batch */
#define API_TARGETS_MAX 100 /* users or sessions of one send */

/* Where messages go: one room, or (of a send) users, or sessions. */
enum api_to { API_TO_ROOM, API_TO_USER, API_TO_USERS, API_TO_SESSION, API_TO_SESSIONS, API_TO_ALL };

/* Slices point into the body or the arena; names are valid (docs/protocol.md), data is one valid JSON value as written, or bytes. */
struct api_message {
    enum api_to to;
    struct slice room; /* of the cluster: the room, $user:…, $session:… or $all; empty when there are several */
    struct slice event, key, except, data;
    enum data_type data_type;
    struct slice *targets; /* USERS, SESSIONS: rooms */
    size_t target_count;
};

/* {room, data | data_base64, event?, key?, except?}. The body may be any bytes. */
enum err api_read_publish(struct slice body, struct arena *a, struct api_message *ret, struct error *reterr);
/* {to: {user} | {users} | {session} | {sessions}, data | data_base64, event?, key?} */
enum err api_read_send(struct slice body, struct arena *a, struct api_message *ret, struct error *reterr);
/* The same; without `to` it is for that session, unless that is empty. */
enum err api_read_send_to(struct slice body, struct slice session, struct arena *a, struct api_message *ret,
                          struct error *reterr);
/* {data | data_base64, event?, key?} */
enum err api_read_broadcast(struct slice body, struct arena *a, struct api_message *ret, struct error *reterr);
/* {messages: […]}, each as of a publish: 1 to API_BATCH_MAX, *ret in the arena. What is wrong with one of them is that one's own business: its error in
 * *ret_errors (code OK: none). */
enum err api_read_batch(struct slice body, struct arena *a, struct api_message **ret, struct error **ret_errors,
                        size_t *ret_count, struct error *reterr);

/* A member that is a string of 1 to max bytes without control characters. name is for the error. */
enum err api_read_text(struct json_value v, const char *name, size_t max, struct arena *a, struct slice *ret,
                       struct error *reterr);
/* One that is a session or a key. */
enum err api_read_word(struct json_value v, const char *name, struct arena *a, struct slice *ret, struct error *reterr);

/* {users: […]}: 1 to API_PRESENCE_MAX, *ret in the arena. */
#define API_PRESENCE_MAX 128
enum err api_read_users(struct slice body, struct arena *a, struct slice **ret, size_t *ret_count,
                        struct error *reterr);

#endif
