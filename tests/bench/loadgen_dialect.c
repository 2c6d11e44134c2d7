/* loadgen_dialect.c: Xindao's native protocol, bare rooms, Socket.IO: of a peer, and with Xindao's room verbs. */
#include "loadgen_dialect.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool has(struct frame_text text, const char *what)
{
    return memmem(text.p, text.n, what, strlen(what)) != NULL;
}

static bool starts(struct frame_text text, const char *what)
{
    return text.n >= strlen(what) && memcmp(text.p, what, strlen(what)) == 0;
}

static size_t native_path(char *buf, size_t size, uint32_t client, uint32_t room)
{
    (void)room;
    return (size_t)snprintf(buf, size, "/ws/bench-%" PRIu32, client);
}

static size_t native_head(char *buf, size_t size, uint32_t room)
{
    return (size_t)snprintf(buf, size, "{\"type\":\"publish\",\"room\":\"bench-%" PRIu32 "\",\"data\":\"", room);
}

static enum meaning native_read(struct frame_text text, uint32_t room, char *reply, size_t size)
{
    if (has(text, "\"type\":\"welcome\"")) {
        snprintf(reply, size, "{\"type\":\"join\",\"id\":1,\"room\":\"bench-%" PRIu32 "\"}", room);
        return MEANS_REPLY;
    }
    if (has(text, "\"type\":\"ack\""))
        return MEANS_ENTERED;
    if (has(text, "\"type\":\"error\"") || has(text, "\"type\":\"goodbye\""))
        return MEANS_ERROR;
    return MEANS_NOTHING; /* others enter and exit */
}

static size_t plain_path(char *buf, size_t size, uint32_t client, uint32_t room)
{
    (void)client;
    return (size_t)snprintf(buf, size, "/r/%" PRIu32, room);
}

static size_t plain_head(char *buf, size_t size, uint32_t room)
{
    (void)room;
    if (size > 0)
        buf[0] = '\0'; /* the frame is the payload */
    return 0;
}

static size_t socketio_path(char *buf, size_t size, uint32_t client, uint32_t room)
{
    (void)client;
    return (size_t)snprintf(buf, size, "/socket.io/?EIO=4&transport=websocket&room=%" PRIu32, room);
}

static size_t socketio_head(char *buf, size_t size, uint32_t room)
{
    (void)room;
    return (size_t)snprintf(buf, size, "42[\"m\",\"");
}

/* Engine.IO: 0 open, 2 ping, 3 pong, 4 message; inside a message: 0 connect, 2 event, 4 connect error. */
static enum meaning socketio_read(struct frame_text text, uint32_t room, char *reply, size_t size)
{
    (void)room;
    if (starts(text, "40"))
        return MEANS_ENTERED;
    if (starts(text, "44"))
        return MEANS_ERROR;
    if (!starts(text, "0") && !starts(text, "2"))
        return MEANS_NOTHING;
    snprintf(reply, size, "%s", starts(text, "0") ? "40" : "3");
    return MEANS_REPLY;
}

static size_t verbs_path(char *buf, size_t size, uint32_t client, uint32_t room)
{
    (void)client;
    (void)room;
    return (size_t)snprintf(buf, size, "/socket.io/?EIO=4&transport=websocket");
}

static size_t verbs_head(char *buf, size_t size, uint32_t room)
{
    return (size_t)snprintf(buf, size, "42[\"publish\",\"bench-%" PRIu32 "\",\"m\",\"", room);
}

/* As above, and inside a message: 3 ack. */
static enum meaning verbs_read(struct frame_text text, uint32_t room, char *reply, size_t size)
{
    if (starts(text, "430[{\"type\":\"ack\""))
        return MEANS_ENTERED;
    if (starts(text, "430") || starts(text, "42[\"$error\""))
        return MEANS_ERROR;
    if (!starts(text, "40"))
        return socketio_read(text, room, reply, size);
    snprintf(reply, size, "420[\"join\",\"bench-%" PRIu32 "\"]", room);
    return MEANS_REPLY;
}

static const struct dialect native = {
    .name = "native",
    .help = "Xindao's JSON protocol",
    .headers = "Sec-WebSocket-Protocol: xindao.v1.json\r\n",
    .path = native_path,
    .publish_head = native_head,
    .publish_tail = "\"}",
    .read = native_read,
};
static const struct dialect plain = {
    .name = "plain",
    .help = "every frame goes to all members of the room in the URL, /r/<room>",
    .headers = "",
    .path = plain_path,
    .publish_head = plain_head,
    .publish_tail = "",
};
static const struct dialect socketio = {
    .name = "socketio",
    .help = "Socket.IO 4: event \"m\" goes to the room in the query",
    .headers = "",
    .path = socketio_path,
    .publish_head = socketio_head,
    .publish_tail = "\"]",
    .read = socketio_read,
};
static const struct dialect verbs = {
    .name = "socketio-verbs",
    .help = "Socket.IO 4 as Xindao understands it by default: events join and publish",
    .headers = "",
    .path = verbs_path,
    .publish_head = verbs_head,
    .publish_tail = "\"]",
    .read = verbs_read,
};

const struct dialect *const dialects[] = {&native, &plain, &socketio, &verbs, NULL};

const struct dialect *dialect_find(const char *name)
{
    for (size_t i = 0; dialects[i] != NULL; i++)
        if (strcmp(dialects[i]->name, name) == 0)
            return dialects[i];
    return NULL;
}
