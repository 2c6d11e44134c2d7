/* gateway/net/net.c: the network as a whole: start, reload, stop, and the sweep that frees sockets. */
#include <assert.h>
#include <signal.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/net/net_private.h"

static void sweep(struct task *t)
{
    struct net *n = container_of(t, struct net, sweep);
    struct link now;
    list_init(&now);
    list_splice(&now, &n->todo); /* what is queued meanwhile waits for the next turn */
    while (!list_empty(&now)) {
        struct socket *s = list_first(&now, struct socket, todo);
        list_del(&s->todo);
        if (s->state == SOCKET_DEAD)
            socket_free(s);
        else
            socket_continue(s);
    }
}

void net_todo(struct net *n, struct socket *s)
{
    if (list_empty(&s->todo))
        list_append(&n->todo, &s->todo);
    loop_idle(n->loop, &n->sweep, 0);
}

static void on_tick(struct timer *t)
{
    struct net *n = container_of(t, struct net, tick);
    wheel_advance(&n->wheel, loop_now_ms(n->loop));
    if (n->open > 0)
        timer_start(&n->tick, TICK_MS);
}

void net_opened(struct net *n)
{
    metrics->connections++;
    if (n->open++ > 0)
        return;
    wheel_advance(&n->wheel, loop_now_ms(n->loop)); /* it stood still while nobody was here */
    timer_start(&n->tick, TICK_MS);
}

void net_closed(struct net *n)
{
    metrics->connections--;
    n->open--;
}

void net_refused(const struct peer_address *a, uint16_t port, enum drop_reason why, const char *detail)
{
    metrics->drops[why]++;
    if (detail[0] != '\0')
        LOG_PEER(INFO, "refused", "peer=%s reason=%s detail=%s", peer_name(a, port), drop_reason_word(why),
                 log_q(slice_str(detail)));
    else
        LOG_PEER(INFO, "refused", "peer=%s reason=%s", peer_name(a, port), drop_reason_word(why));
}

struct net *net_create(struct loop *loop, const struct config *cfg, struct error *reterr)
{
    struct net *n = xcalloc(1, sizeof *n);
    n->loop = loop;
    n->cfg = cfg;
    n->reserve_fd = -1;
    list_init(&n->sockets);
    list_init(&n->todo);
    task_init(&n->sweep, sweep);
    timer_init(&n->tick, loop, on_tick);
    timer_init(&n->accept_timer, loop, NULL);
    wheel_init(&n->wheel, TICK_MS, loop_now_ms(loop));
    n->bio = tls_bio_create(n);
    n->tickets = tickets_create(loop);
    /* OpenSSL and we send with MSG_NOSIGNAL; this is for whatever else might write to a closed pipe. */
    (void)signal(SIGPIPE, SIG_IGN);
    if ((!cfg->insecure && tls_context_create(cfg, n->tickets, &n->tls, reterr) != OK) ||
        listeners_open(n, reterr) != OK)
        net_destroy(&n);
    return n;
}

void net_start(struct net *n, struct gateway *g)
{
    n->gateway = g;
    listeners_start(n);
}

enum err net_reload_tls(struct net *n, struct error *reterr)
{
    if (n->tls == NULL)
        return OK;
    SSL_CTX *fresh = NULL;
    enum err err = tls_context_create(n->cfg, n->tickets, &fresh, reterr);
    if (err != OK)
        return err;
    SSL_CTX_free(n->tls); /* connections hold it as long as they need it */
    n->tls = fresh;
    return OK;
}

enum err net_check_tls(const struct config *cfg, struct error *reterr)
{
    if (cfg->insecure)
        return OK;
    SSL_CTX *ctx = NULL;
    enum err err = tls_context_create(cfg, NULL, &ctx, reterr);
    SSL_CTX_free(ctx);
    return err;
}

void net_ticket_keys(struct net *n, const struct secret_record *secrets, size_t count)
{
    tickets_set(n->tickets, secrets, count);
}

void net_stop_accepting(struct net *n)
{
    n->draining = true;
    listeners_close(n);
    list_for_each (it, &n->sockets) {
        struct socket *s = list_entry(it, struct socket, link);
        if (s->state == SOCKET_HTTP && s->http == NULL)
            socket_close(s, "closed");
    }
}

size_t net_open_count(const struct net *n)
{
    return n->open;
}

void net_destroy(struct net **nn)
{
    struct net *n = TAKE(*nn);
    if (n == NULL)
        return;
    if (n->listeners != NULL)
        listeners_close(n);
    while (!list_empty(&n->sockets)) {
        struct socket *s = list_first(&n->sockets, struct socket, link);
        if (s->why == NULL)
            s->why = "closed";
        socket_free(s);
    }
    task_cancel(&n->sweep);
    timer_stop(&n->tick);
    SSL_CTX_free(n->tls);
    BIO_free(n->bio);
    tickets_destroy(&n->tickets);
    free(n->listeners);
    free(n);
}
