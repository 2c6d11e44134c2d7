/* gateway/api_gate.c: clients that use the HTTP API with their token: the answer to a request waits for the store's word that they may be here. */
#include <stdio.h>

#include "base/mem.h"
#include "gateway/admit.h"
#include "gateway/api_call.h"
#include "gateway/auth/auth.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"

struct api_gate {
    struct api_call *call;
    bool known; /* the store has answered */
    struct error refusal;
    bool held; /* the answer to the request is here already */
    struct http_response response;
    struct buf body, headers;
    char ip[CONN_IP_MAX];
    size_t user_n;
    char user[];
};

static void gate_free(struct api_gate *g)
{
    buf_fini(&g->body);
    buf_fini(&g->headers);
    free(g);
}

static void pass(struct api_call *c, struct api_gate *g, const struct http_response *r)
{
    if (g->refusal.code != OK)
        api_refuse(c, &g->refusal);
    else
        c->base.respond(&c->base, r);
    gate_free(g);
}

static void on_admitted(void *arg, const struct broker_result *r)
{
    struct api_gate *g = arg;
    g->known = true;
    (void)admit_verdict(r, (struct slice){g->user, g->user_n}, g->ip, &g->refusal);
    if (!g->held)
        return;
    g->call->gate = NULL;
    pass(g->call, g, &g->response);
}

void api_admit(struct api_call *c, const struct auth_claims *claims, struct slice ip)
{
    struct slice user = slice_str(claims->user);
    const struct admission question = admit_question(user, claims);
    struct api_gate *g = xcalloc(1, sizeof *g + user.n);
    g->call = c;
    g->user_n = user.n;
    memcpy(g->user, user.p, user.n);
    (void)snprintf(g->ip, sizeof g->ip, "%.*s", SLICE_FMT(ip));
    c->gate = g;
    c->gw->broker->ops->admit(c->gw->broker, &question, on_admitted, g);
}

bool api_gate_takes(struct api_call *c, const struct http_response *r)
{
    struct api_gate *g = c->gate;
    if (g == NULL)
        return false;
    if (g->known) {
        c->gate = NULL;
        pass(c, g, r);
        return true;
    }
    g->held = true;
    g->response = *r;
    buf_append(&g->body, r->body);
    g->response.body = buf_slice(&g->body);
    if (r->headers != NULL) {
        buf_append_str(&g->headers, r->headers);
        buf_append_char(&g->headers, '\0');
        g->response.headers = g->headers.p;
    }
    return true;
}
