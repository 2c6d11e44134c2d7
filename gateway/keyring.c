/* gateway/keyring.c: when to ask for ticket keys. */
#include "gateway/keyring.h"

#include "base/log.h"
#include "base/random.h"

#define POLL_MIN_MS 250u
#define POLL_MAX_MS 60000u
#define POLLS       16u /* at least, in the life of a key */
#define RETRY_MS    1000u
#define LEAD        3u /* polls that a key is known before it is used: one may be missed */

static uint64_t poll_ms(const struct keyring *k)
{
    uint64_t ms = k->cfg->ticket_rotation_s * (uint64_t)1000 / POLLS;
    return ms < POLL_MIN_MS ? POLL_MIN_MS : ms < POLL_MAX_MS ? ms : POLL_MAX_MS;
}

static void on_secrets(void *arg, const struct broker_result *r)
{
    struct keyring *k = arg;
    if (k->stopped)
        return;
    if (r->err == OK)
        k->told(k->owner, r->secrets, r->count);
    else
        LOG_PEER(WARN, "no news of the ticket keys: those that are known stay", "why=%s", log_q(slice_str(r->why)));
    timer_start(&k->timer, r->err == OK ? poll_ms(k) : RETRY_MS);
}

static void ask(struct timer *t)
{
    struct keyring *k = container_of(t, struct keyring, timer);
    char fresh[2 * TICKET_SECRET_BYTES + 1];
    if (k->cfg->tls_tickets == TICKETS_OFF) { /* a reload may change that */
        timer_start(t, poll_ms(k));
        return;
    }
    random_hex(fresh, sizeof fresh - 1);
    k->broker->ops->secrets(k->broker, slice_str(fresh), k->cfg->ticket_rotation_s * (uint64_t)1000, LEAD * poll_ms(k),
                            on_secrets, k);
}

void keyring_start(struct keyring *k, struct broker *broker, const struct config *cfg,
                   void (*told)(void *owner, const struct secret_record *secrets, size_t n), void *owner)
{
    *k = (struct keyring){.broker = broker, .cfg = cfg, .told = told, .owner = owner};
    timer_init(&k->timer, broker->loop, ask);
    ask(&k->timer);
}

void keyring_stop(struct keyring *k)
{
    k->stopped = true;
    if (k->broker != NULL)
        timer_stop(&k->timer);
}
