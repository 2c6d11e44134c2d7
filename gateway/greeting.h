/* gateway/greeting.h: a connection that has still to say who it is: its first frame must bring a token, and soon. Nothing else is done for it, the
 * store does not know of it. */
#ifndef XD_GREETING_H
#define XD_GREETING_H

#include "base/list.h"
#include "gateway/transport.h"

struct conn;
struct gateway;

struct greeting {
    struct link link; /* gateway->greetings */
    struct conn *conn;
    char *agent, *origin, *id, *referer; /* of the request; NULL: none */
    struct knock *knock;                 /* the backend is being asked; NULL: it is not */
    struct wxlogin *wxlogin;             /* WeChat is */
    char *wxlogin_id;                    /* of the frame with the code, as written; NULL: none */
    bool resume;                         /* a resume is announced */
    unsigned refused;                    /* frames */
    size_t input;                        /* bytes */
};

/* id: who the URL says it is, or empty; the token must say the same. */
void greeting_begin(struct conn *c, const struct http_request *r, struct slice id);

/* Input of a connection with a greeting. */
void greeting_input(struct conn *c, char *p, size_t n);
/* One complete message. */
void greeting_frame(struct conn *c, struct slice frame, bool binary);
/* The time is over. */
void greeting_timeout(struct conn *c);
/* NULL-safe. */
void greeting_end(struct greeting **yp);

/* This node is going away: so are those that have not come in yet. */
void greetings_drain(struct gateway *g);

#endif
