/* gateway/socketio_rules.h: what an event that a Socket.IO client emits means, by namespace and name; the first match wins.
 *
 * One rule is one line, `[NAMESPACE,]PATTERN key=value …`, for example
 *   `chat* do=relay to=namespace echo=off`   `/admin,enter do=join`
 * Patterns as in gateway/policy.h; without a namespace a rule is for all of them. Behind the lines stands a rule of our own: events named like a room
 * verb are that verb, everything else is refused. docs/configuration.md describes the keys. */
#ifndef XD_SOCKETIO_RULES_H
#define XD_SOCKETIO_RULES_H

#include "gateway/protocol/protocol.h"

/* NAMED: the verb that has the event's own name. */
enum sio_action { SIO_DO_NAMED, SIO_DO_VERB, SIO_DO_RELAY, SIO_DO_BACKEND, SIO_DO_REFUSE };

struct sio_rule {
    char *nsp; /* pattern; NULL: any */
    char *event;
    enum sio_action action;
    enum command_kind verb; /* VERB */
    bool to_namespace;      /* RELAY: to everybody in the namespace, not to the rooms the sender is in */
    bool echo;              /* RELAY: the sender gets it too */
};

struct sio_rules;

/* NULL when a line is bad; *reterr names it. */
struct sio_rules *sio_rules_create(char *const *lines, size_t count, struct error *reterr);
void sio_rules_destroy(struct sio_rules **r);

/* Never NULL; valid until sio_rules_destroy. */
const struct sio_rule *sio_rules_find(const struct sio_rules *r, struct slice nsp, struct slice event);

/* The room verb of that name; false when there is none, or a client of this protocol cannot ask for it. */
bool sio_verb_find(struct slice name, enum command_kind *ret);

#endif
