/* gateway/watch.h: clients that watch users: is he there, away, or gone, on however many devices, at whichever nodes.
 *
 * A node watches each user once, however many of its clients do, and asks how he is when it begins to, and again whenever it may have missed something: so
 * every watcher is told of every change, in order, and of none twice. What a client watches is part of its session: the store has it, and the
 * node that resumes the session goes on. */
#ifndef XD_WATCH_H
#define XD_WATCH_H

#include "base/table.h"
#include "broker/broker.h"

struct command;
struct gateway;
struct session;
struct watched;

/* One session watches one user. */
struct watch {
    UT_hash_handle hh; /* session->watches, by `user` */
    struct watched *user;
    struct session *session;
    struct link in_user;
    struct link asked; /* requests for it that are not answered yet */
    bool devices;      /* it wants to know when the number of sessions changes, too */
    bool live;         /* it has been told how he is */
};

/* commands.c */
enum err watch_run(struct session *s, const struct command *c, struct error *reterr);
enum err unwatch_run(struct session *s, const struct command *c, struct error *reterr);

/* Watches on for a session that was resumed: what watch_text() wrote when it was elsewhere. Its client is told how everybody is. */
void watch_restore(struct session *s, struct slice text);
/* Whom it watches, for the store: a line each. */
void watch_text(const struct session *s, struct buf *ret);
/* Its token is another one: those are no longer watched whom it does not allow. */
void watch_review(struct session *s);
/* The session has lost its connection, or it ends. */
void watch_end(struct session *s);

void watch_init(struct gateway *g);

/* News from the broker. */
void watch_changed(struct gateway *g, const struct user_record *u);
/* The link to the store was lost for a while: everybody is asked for again. watch_again: that one. */
void watch_link_up(struct gateway *g);
void watch_again(struct gateway *g, struct slice user);
/* Tries again what the broker refused. */
void watch_retry(struct gateway *g);
/* The broker is gone: nothing is asked any more. */
void watch_fini(struct gateway *g);

#endif
