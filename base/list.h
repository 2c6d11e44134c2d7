/* base/list.h: intrusive doubly linked lists. An element sits on a list by its own `struct link`; nothing is allocated. */
#ifndef XD_BASE_LIST_H
#define XD_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"

/* A list head is a link too; an unlinked link points at itself, so removing twice is harmless. */
struct link {
    struct link *prev, *next;
};

static inline void list_init(struct link *l)
{
    l->prev = l->next = l;
}

static inline bool list_empty(const struct link *head)
{
    return head->next == head;
}

static inline void list_append(struct link *head, struct link *l)
{
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}

static inline void list_prepend(struct link *head, struct link *l)
{
    list_append(head->next, l);
}

static inline void list_del(struct link *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    list_init(l);
}

/* Moves everything from `from` to the end of `to`; `from` is empty afterwards. */
static inline void list_splice(struct link *to, struct link *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#define list_entry(l, type, member)    container_of(l, type, member)
#define list_first(head, type, member) list_entry((head)->next, type, member)
/* NOLINTBEGIN(bugprone-macro-parentheses) */
#define list_for_each(it, head) for (struct link *it = (head)->next; it != (head); it = it->next)
/* The body may remove `it`, and only `it`. */
#define list_for_each_safe(it, head)                                                                                   \
    for (struct link *it = (head)->next, *it##_next = it->next; it != (head); it = it##_next, it##_next = it->next)
/* NOLINTEND(bugprone-macro-parentheses) */

#endif
