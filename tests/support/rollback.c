/* tests/support/rollback.c: the end of a log undone. */
#include "tests/support/rollback.h"

#include <stdlib.h>

#include "broker/memory.h"

static void drop_keys(struct memory *m, struct slice room, uint64_t offset)
{
    list_for_each_safe (it, &m->once_list) {
        struct once *o = list_entry(it, struct once, link);
        if (o->position.offset <= offset || !slice_starts((struct slice){o->key, o->hh.keylen}, room))
            continue;
        list_del(&o->link);
        HASH_DELETE(hh, m->once, o);
        free(o);
    }
}

void rollback(struct broker *b, struct slice room, uint64_t offset)
{
    struct memory *m = container_of(b, struct memory, b);
    struct room *r = memory_room(m, room);
    r->head = (struct position){0};
    list_for_each_safe (it, &r->log) {
        struct op *op = list_entry(it, struct op, link);
        if (op->position.offset <= offset) {
            r->head = op->position;
            continue;
        }
        list_del(&op->link);
        free(op);
        r->log_count--;
    }
    drop_keys(m, room, offset);
}

void roll_forward(struct broker *b, struct slice room, const struct position *position)
{
    struct room *r = memory_room(container_of(b, struct memory, b), room);
    list_entry(r->log.prev, struct op, link)->position = *position;
    r->head = *position;
}
