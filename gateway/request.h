/* gateway/request.h: a command of a client that waits for the store. Holds its session alive until answered. */
#ifndef XD_REQUEST_H
#define XD_REQUEST_H

#include "broker/broker.h"
#include "gateway/protocol/protocol.h"

struct control_job;
struct session;

struct request {
    struct session *session; /* a reference */
    enum command_kind kind;
    struct slice id, room;   /* copies, behind the struct */
    struct control_job *job; /* not NULL: not the client asked; owned */
    bool granted;            /* a join that the session's token asked for: told as JOINED */
    struct report *report;   /* owned: the backend is to hear of the message, when it is published */
    struct position position;
    uint32_t replicas;
    bool stored;
};

/* Counts against the session's limit of requests under way, pausing its input when that is reached. */
struct request *request_create(struct session *s, const struct command *c);

/* Answer, then free the request and clear the pointer. Harmless when the client is gone. NULL requests are ignored. */
void request_ack(struct request **r, const struct position *position, const uint64_t *total);
void request_event(struct request **r, struct event *e); /* id is filled in */
void request_fail(struct request **r, enum err err, const char *why);
/* Frees it without an answer. */
void request_drop(struct request **r);
/* Fails when the result says so, and returns true then. */
bool request_failed(struct request **r, const struct broker_result *result);

#endif
