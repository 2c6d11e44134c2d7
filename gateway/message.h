/* gateway/message.h: a message as clients are told of it, whether it comes live or from a log. The event borrows everything, the position too. */
#ifndef XD_MESSAGE_H
#define XD_MESSAGE_H

#include "broker/broker.h"
#include "gateway/protocol/protocol.h"

static inline struct event message_live(const struct envelope *e)
{
    return (struct event){.kind = EVENT_MESSAGE,
                          .room = e->room,
                          .name = e->event,
                          .sid = e->from,
                          .user = e->user,
                          .data = e->data,
                          .data_type = e->data_type,
                          .position = &e->position,
                          .time_ms = e->time_ms};
}

static inline struct event message_logged(struct slice room, const struct message_record *r)
{
    return (struct event){.kind = EVENT_MESSAGE,
                          .room = room,
                          .name = r->event,
                          .sid = r->from,
                          .user = r->user,
                          .data = r->data,
                          .data_type = r->data_type,
                          .position = &r->position,
                          .time_ms = r->time_ms};
}

#endif
