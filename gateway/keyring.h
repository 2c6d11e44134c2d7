/* gateway/keyring.h: asks the store for the keys of TLS session tickets, which all nodes share, again and again. */
#ifndef XD_KEYRING_H
#define XD_KEYRING_H

#include "broker/broker.h"
#include "gateway/config.h"

#define TICKET_SECRET_BYTES 80 /* name, cipher key, MAC key; twice as many hex digits in the store */

struct keyring {
    struct broker *broker;
    const struct config *cfg;
    struct timer timer;
    void (*told)(void *owner, const struct secret_record *secrets, size_t n); /* the secrets are borrowed */
    void *owner;
    bool stopped;
};

/* broker and cfg are borrowed; the keyring must outlive the broker, whose last completions come to it. */
void keyring_start(struct keyring *k, struct broker *broker, const struct config *cfg,
                   void (*told)(void *owner, const struct secret_record *secrets, size_t n), void *owner);
/* Harmless when it was never started, or twice. */
void keyring_stop(struct keyring *k);

#endif
