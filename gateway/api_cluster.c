/* gateway/api_cluster.c: the cluster as a whole: its nodes, and how much there is of everything. */
#include "gateway/api.h"
#include "gateway/api_routes.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"

static void put_number(struct buf *b, const char *label, uint64_t n)
{
    buf_append_str(b, label);
    buf_append_u64(b, n);
}

static void on_nodes(void *arg, const struct broker_result *r)
{
    struct api_call *c = arg;
    struct buf body = BUF_INIT;
    if (r->err != OK) {
        api_refuse_result(c, r->err, r->why);
        return;
    }
    buf_append_str(&body, "{\"nodes\":[");
    for (size_t i = 0; i < r->count; i++) {
        const struct node_view *n = &r->nodes[i];
        api_put(&body, i == 0 ? "{\"node\":" : ",{\"node\":", n->node);
        buf_append_str(&body, n->alive ? ",\"alive\":true" : ",\"alive\":false");
        api_put(&body, ",\"address\":", n->address);
        api_put(&body, ",\"version\":", n->version);
        put_number(&body, ",\"started\":", n->started_ms);
        put_number(&body, ",\"heartbeat\":", n->heartbeat_ms);
        put_number(&body, ",\"sessions\":", n->connections);
        put_number(&body, ",\"rooms\":", n->rooms);
        buf_append_char(&body, '}');
    }
    buf_append_str(&body, "]}");
    api_answer(c, buf_slice(&body));
    buf_fini(&body);
}

void api_get_nodes(struct api_call *c, const struct http_request *r)
{
    (void)r;
    c->gw->broker->ops->nodes(c->gw->broker, on_nodes, c);
}

static void on_stats(void *arg, const struct broker_result *r)
{
    struct api_call *c = arg;
    struct buf body = BUF_INIT;
    uint64_t alive = 0, sessions = 0;
    if (r->err != OK) {
        api_refuse_result(c, r->err, r->why);
        return;
    }
    for (size_t i = 0; i < r->count; i++) {
        alive += r->nodes[i].alive;
        sessions += r->nodes[i].alive ? r->nodes[i].connections : 0;
    }
    put_number(&body, "{\"nodes\":", alive);
    put_number(&body, ",\"sessions\":", sessions);
    put_number(&body, ",\"parked\":", r->parked);
    put_number(&body, ",\"rooms\":", r->total);
    api_put(&body, ",\"node\":{\"node\":", slice_str(c->gw->node));
    put_number(&body, ",\"connections\":", metrics->connections);
    put_number(&body, ",\"sessions\":", gateway_session_count(c->gw));
    put_number(&body, ",\"messages_in\":", metrics->messages_in);
    put_number(&body, ",\"deliveries\":", metrics->deliveries);
    put_number(&body, ",\"published\":", c->gw->broker->stats.published);
    put_number(&body, ",\"queue_bytes\":", metrics->queue_bytes);
    buf_append_str(&body, gateway_not_ready(c->gw) == NULL ? ",\"ready\":true}}" : ",\"ready\":false}}");
    api_answer(c, buf_slice(&body));
    buf_fini(&body);
}

void api_get_stats(struct api_call *c, const struct http_request *r)
{
    (void)r;
    c->gw->broker->ops->nodes(c->gw->broker, on_stats, c);
}
