/* gateway/act.c: carrying out what backends want. */
#include "gateway/act.h"

#include "gateway/gateway.h"

enum err act_publish(struct gateway *g, const struct api_message *m, struct slice room, broker_done *done, void *arg,
                     struct error *reterr)
{
    const struct policy *policy = policies_find(g->policies, room);
    uint32_t most = policy->size != 0 ? policy->size : g->cfg->max_message_size;
    if (m->data.n > most)
        return fail(reterr, ERR_TOO_LARGE, "data of %zu bytes, policy %s allows %u", m->data.n, policy->pattern, most);
    g->broker->ops->publish(g->broker,
                            &(struct publish){.room = room,
                                              .event = m->event,
                                              .except = m->except,
                                              .data = m->data,
                                              .key = m->key,
                                              .data_type = m->data_type,
                                              .retain_count = policy->retain_count,
                                              .retain_age_s = policy->retain_age_s,
                                              .replicas = policy->replicas},
                            done, arg);
    return OK;
}
