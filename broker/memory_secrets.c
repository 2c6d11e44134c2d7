/* broker/memory_secrets.c: the embedded broker's secrets: shared with nobody, but rotated all the same. */
#include "base/mem.h"
#include "broker/memory.h"

static void drop_oldest(struct memory *m)
{
    free(m->secrets[0].text);
    m->secret_count--;
    memmove(&m->secrets[0], &m->secrets[1], m->secret_count * sizeof m->secrets[0]);
}

static void add(struct memory *m, struct slice fresh, uint64_t from_ms)
{
    if (m->secret_count == SECRETS_MAX)
        drop_oldest(m);
    m->secrets[m->secret_count++] =
        (struct memory_secret){.text = xstrndup(fresh.p, fresh.n), .n = fresh.n, .from_ms = from_ms};
}

void memory_run_secrets(struct memory *m, struct op *op)
{
    uint64_t now = loop_now_ms(m->b.loop), newest, next;
    while (m->secret_count != 0 && m->secrets[0].from_ms + 2 * op->period_ms <= now)
        drop_oldest(m);
    if (m->secret_count == 0) {
        add(m, op->p.data, now);
    } else {
        newest = m->secrets[m->secret_count - 1].from_ms;
        next = newest + op->period_ms > now + op->lead_ms ? newest + op->period_ms : now + op->lead_ms;
        if (newest + op->period_ms <= now + op->lead_ms)
            add(m, op->p.data, next);
    }
    struct secret_record secrets[SECRETS_MAX];
    for (size_t i = 0; i < m->secret_count; i++)
        secrets[i] = (struct secret_record){.text = {m->secrets[i].text, m->secrets[i].n},
                                            .age_ms = (int64_t)now - (int64_t)m->secrets[i].from_ms};
    broker_complete(op->done, op->arg, &(struct broker_result){.secrets = secrets, .count = m->secret_count});
}

void memory_secrets_clear(struct memory *m)
{
    while (m->secret_count != 0)
        drop_oldest(m);
}
